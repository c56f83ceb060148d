//! Exit codes: one frozen table.

/// How the program ends. Numbers are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// An error.
    Error,
    /// There are changes (only with `--detailed-exitcode`).
    Changes,
    /// Findings in the config repo.
    Findings,
    /// A guard blocks: a switch, a budget, a grant.
    Blocked,
    /// The plan is stale.
    Stale,
    /// Partly done, or not known.
    Partial,
    /// Held by another run.
    Held,
    /// A host key is not the pinned one.
    HostKey,
    /// Wrong usage.
    Usage,
}

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Error => 1,
            Self::Changes => 2,
            Self::Findings => 3,
            Self::Blocked => 4,
            Self::Stale => 5,
            Self::Partial => 6,
            Self::Held => 7,
            Self::HostKey => 8,
            Self::Usage => 64,
        }
    }
}

impl Exit {
    /// The exit of a number that another process of ours sent.
    pub fn of(code: u8) -> Self {
        let all = [
            Self::Done,
            Self::Changes,
            Self::Findings,
            Self::Blocked,
            Self::Stale,
            Self::Partial,
            Self::Held,
            Self::HostKey,
            Self::Usage,
        ];
        all.into_iter()
            .find(|exit| exit.code() == code)
            .unwrap_or(Self::Error)
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn the_table_is_frozen() {
        let table = [
            (Exit::Done, 0),
            (Exit::Error, 1),
            (Exit::Changes, 2),
            (Exit::Findings, 3),
            (Exit::Blocked, 4),
            (Exit::Stale, 5),
            (Exit::Partial, 6),
            (Exit::Held, 7),
            (Exit::HostKey, 8),
            (Exit::Usage, 64),
        ];
        for (exit, code) in table {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
    }
}
