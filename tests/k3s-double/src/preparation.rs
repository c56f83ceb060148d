//! Everything that a server does before its port opens: tokens, keys, certificates, and where they come from.
//!
//! Every error of this module is fatal: exit 1, and systemd starts again.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

use crate::certs::{self, Identity};
use crate::critical::Critical;
use crate::etcd::member;
use crate::layout::{self, Layout};
use crate::passwd::Passwords;
use crate::remote::{Credential, Remote, User};
use crate::settings::Settings;
use crate::supervisor::State;
use crate::token::{self, Token};
use crate::{control_plane, join, kubeconfig, log, machine};

/// Moved-aside data directories that are kept.
const BACKUPS_KEPT: usize = 5;

/// Where this start comes from.
#[derive(Debug)]
pub(crate) enum Origin {
    New,
    Restart,
    Joining(Box<Remote>),
}

/// What a start has made before its port opens.
pub(crate) struct Prepared {
    pub(crate) layout: Layout,
    pub(crate) identity: Identity,
    pub(crate) origin: Origin,
    pub(crate) state: Rc<State>,
}

/// Everything before the port opens: tokens, keys, certificates. An error here is fatal.
pub(crate) async fn prepare(settings: &Settings) -> Result<Prepared> {
    let layout = Layout::new(settings.data_dir());
    let identity = machine::identity(settings)?;
    let given = settings.token().map_err(anyhow::Error::msg)?;
    let given = given
        .as_deref()
        .map(Token::for_server)
        .transpose()
        .map_err(anyhow::Error::msg)?;
    let joins = settings.text("server").is_some() && given.is_some();
    put_tombstone_aside(&layout, joins)?;
    let embeds_etcd = leaves_lone_datastore(&layout, settings, joins)?;
    let critical = Critical::of(settings);

    let origin = origin(settings, &layout, given.as_ref(), &critical).await?;
    certs::ensure_authorities(&layout)?;
    let passwords = passwords(settings, &layout, given)?;
    if !layout.cred("ipsec.psk").exists() {
        layout::write(
            &layout.cred("ipsec.psk"),
            token::random_hex(48)?.as_bytes(),
            0o600,
        )?;
    }
    certs::ensure_leaves(&layout, settings, &identity)?;
    for (client, file) in [
        ("client-admin", "admin.kubeconfig"),
        ("client-supervisor", "supervisor.kubeconfig"),
    ] {
        kubeconfig::write(
            &layout,
            client,
            control_plane::APISERVER,
            &layout.cred(file),
            0o600,
        )?;
    }
    let state = Rc::new(State::new(
        &layout,
        &identity,
        &passwords,
        critical,
        embeds_etcd,
    )?);
    passwords.write_tokens(&layout)?;
    Ok(Prepared {
        layout,
        identity,
        origin,
        state,
    })
}

async fn origin(
    settings: &Settings,
    layout: &Layout,
    given: Option<&Token>,
    critical: &Critical,
) -> Result<Origin> {
    let remote = settings.text("server").zip(given);
    if member::has_data(layout) {
        log::info("Managed etcd cluster bootstrap already complete and initialized");
        if let Some((url, token)) = remote
            && let Err(error) = reconcile(url, token).await
        {
            log::warn(format!(
                "Unable to reconcile with remote datastore: {error:#}"
            ));
        }
        return Ok(Origin::Restart);
    }
    let Some((url, token)) = remote else {
        log::info("Managed etcd cluster initializing");
        return Ok(Origin::New);
    };
    log::info("Managed etcd cluster not yet initialized");
    let join = async {
        let remote = Remote::connect(url, token).await?;
        join::bootstrap(&remote, layout, critical).await?;
        Ok::<_, anyhow::Error>(remote)
    };
    Ok(Origin::Joining(Box::new(
        join.await.context("failed to bootstrap cluster data")?,
    )))
}

async fn reconcile(url: &str, token: &Token) -> Result<()> {
    let ask = async {
        let remote = Remote::connect(url, token).await?;
        remote
            .get(
                "/v1-k3s/server-bootstrap",
                &Credential::Password(User::Server),
                &[],
            )
            .await
    };
    tokio::time::timeout(Duration::from_secs(15), ask)
        .await
        .context("timed out")?
        .map(drop)
}

/// The passwords of this start; those on disk must fit the token that is given now.
fn passwords(settings: &Settings, layout: &Layout, given: Option<Token>) -> Result<Passwords> {
    let known = Passwords::read(layout)?;
    if let (Some(known), Some(given)) = (&known, &given)
        && known.server != given.password
    {
        anyhow::bail!("bootstrap data already found and encrypted with different token");
    }
    let server = match (known, given) {
        (Some(known), _) => known.server,
        (None, Some(given)) => given.password,
        (None, None) => token::random_hex(16)?,
    };
    let agent = settings.agent_token().map_err(anyhow::Error::msg)?;
    let agent = agent
        .as_deref()
        .map(Token::parse)
        .transpose()
        .map_err(anyhow::Error::msg)?;
    let passwords = Passwords {
        node: agent.map_or_else(|| server.clone(), |token| token.password),
        server,
    };
    passwords.write(layout)?;
    Ok(passwords)
}

/// Whether the datastore is one that others can join. k3s uses SQLite (db/state.db) on a server that was told of no
/// cluster; here that file only marks an etcd that nobody can join. `cluster-init` opens it later, `server:` drops it.
fn leaves_lone_datastore(layout: &Layout, settings: &Settings, joins: bool) -> Result<bool> {
    layout.make_server()?;
    let mark = layout.server("db/state.db");
    if !mark.exists() {
        let embeds_etcd = member::has_data(layout) || joins || settings.switch("cluster-init");
        if !embeds_etcd {
            layout::write(&mark, b"", 0o600)?;
        }
        return Ok(embeds_etcd);
    }
    if joins {
        std::fs::remove_dir_all(layout.etcd()).context("drop the lone datastore")?;
        std::fs::remove_file(&mark)?;
    } else if settings.switch("cluster-init") {
        log::info("Migrating content from sqlite to etcd");
        std::fs::rename(&mark, layout.server("db/state.db.migrated"))?;
    } else {
        return Ok(false);
    }
    layout.make_server()?;
    Ok(true)
}

/// A removed member leaves a tombstone: its data moves aside and it joins anew, if it knows where.
fn put_tombstone_aside(layout: &Layout, joins: bool) -> Result<()> {
    if !layout.etcd().join("tombstone").exists() {
        return Ok(());
    }
    if !joins {
        anyhow::bail!("tombstone file has been detected but --server is empty");
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let aside = layout.server(&format!("db/etcd-backup-{now}"));
    std::fs::rename(layout.etcd(), &aside).context("move removed etcd data aside")?;
    log::info(format!(
        "Moved the data of the removed etcd member to {}",
        aside.display()
    ));
    let mut old: Vec<_> = std::fs::read_dir(layout.server("db"))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("etcd-backup-"))
        })
        .collect();
    old.sort();
    for path in old.iter().rev().skip(BACKUPS_KEPT) {
        std::fs::remove_dir_all(path)?;
    }
    Ok(())
}
