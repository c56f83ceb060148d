//! What a plain scalar means, once for each program whose reading we must share.

use super::node::Value;

/// Whose meaning of plain scalars a file is read with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolver {
    /// What `kubectl` makes of a manifest: go-yaml v2 followed by a trip through JSON. YAML 1.1
    /// booleans (`yes`, `on`, `y`), octals (`0644` is 420), and integral floats become integers.
    Kubernetes,
    /// Our own documents: `true` and `false` are the only booleans, numbers are plain decimals,
    /// and anything a reader could take two ways (`0644`, `yes`, `1_000`) stays text.
    Strict,
    /// What sops makes of a YAML file: go-yaml v3, time stamps included. The MAC of a file depends
    /// on it.
    GoYamlV3,
}

impl Resolver {
    /// The value of a plain scalar.
    #[must_use]
    pub fn resolve(self, text: &str) -> Value {
        match self {
            Self::Strict => strict(text),
            Self::Kubernetes => through_json(go_yaml(text, true)),
            Self::GoYamlV3 => match timestamp(text) {
                Some(stamp) => Value::Timestamp(stamp),
                None => go_yaml(text, false),
            },
        }
    }

    /// The JSON key that a plain mapping key becomes, or `None` where the model program refuses
    /// it (kubectl knows no null keys; sops only text).
    #[must_use]
    pub fn key(self, text: &str) -> Option<String> {
        if self == Self::Strict {
            return Some(text.to_owned());
        }
        match self.resolve(text) {
            Value::String(key) => Some(key),
            _ if self == Self::GoYamlV3 => None,
            Value::Bool(flag) => Some(flag.to_string()),
            Value::Int(number) => Some(number.to_string()),
            Value::UInt(number) => Some(number.to_string()),
            Value::Float(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

fn strict(text: &str) -> Value {
    match text {
        "" | "~" | "null" => return Value::Null,
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let whole = digits.split(['.', 'e', 'E']).next().unwrap_or_default();
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    if leading_zero || !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return Value::String(text.to_owned());
    }
    integer(text, 10)
        .or_else(|| style_float(text).then(|| finite(text)).flatten())
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// The `resolve` function that go-yaml v2 and v3 share, but for v2's further booleans
/// (go.yaml.in/yaml v2.4.3 and v3.0.4, `resolve.go`).
fn go_yaml(text: &str, yaml11_booleans: bool) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Value::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    if yaml11_booleans {
        match text {
            "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Value::Bool(true),
            "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Value::Bool(false),
            _ => {}
        }
    }
    let number = if text.starts_with('.') {
        style_float(text).then(|| finite(text)).flatten()
    } else if text.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-') {
        let plain = text.replace('_', "");
        go_integer(&plain).or_else(|| style_float(&plain).then(|| finite(&plain)).flatten())
    } else {
        None
    };
    number.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Go's `strconv.ParseInt(s, 0, 64)`, then `ParseUint`: the prefix decides the base.
fn go_integer(text: &str) -> Option<Value> {
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (text.get(..1).unwrap_or_default(), rest),
        None => ("", text),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = if let Some(rest) = lower.strip_prefix("0x") {
        (16, rest)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (2, rest)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (8, rest)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, lower.get(1..).unwrap_or_default())
    } else {
        (10, lower.as_str())
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    integer(&format!("{sign}{digits}"), base)
}

fn integer(text: &str, base: u32) -> Option<Value> {
    if let Ok(number) = i64::from_str_radix(text, base) {
        return Some(Value::Int(number));
    }
    // ParseUint takes no sign at all.
    if text.starts_with('+') {
        return None;
    }
    u64::from_str_radix(text, base).ok().map(Value::UInt)
}

/// `^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`
fn style_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let mantissa_fits = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(mantissa),
    };
    mantissa_fits && exponent.is_none_or(|e| digits(e.strip_prefix(['-', '+']).unwrap_or(e)))
}

/// Out of range is an error in Go's `ParseFloat`, and the scalar stays text.
fn finite(text: &str) -> Option<Value> {
    text.parse::<f64>()
        .ok()
        .filter(|number| number.is_finite())
        .map(Value::Float)
}

/// JSON does not tell `1.0` from `1`: Go writes integral floats below 1e21 without a point, and
/// the next reader takes those that fit for integers.
fn through_json(value: Value) -> Value {
    match value {
        Value::Float(number) => integral(number).map_or(Value::Float(number), Value::Int),
        other => other,
    }
}

/// The integer that a float is, where it is one that fits.
#[must_use]
pub fn integral(number: f64) -> Option<i64> {
    /// 2^63, the first float past every `i64`.
    const I64_END: f64 = 9_223_372_036_854_775_808.0;
    if number.fract() != 0.0 || !(-I64_END..I64_END).contains(&number) {
        return None;
    }
    // Goes through the shortest decimal digits, as Go's encoder does.
    number.to_string().parse().ok()
}

/// The four layouts that go-yaml v3 accepts, in RFC 3339 with the shortest fraction (what Go's
/// `MarshalText` writes, and what sops hashes).
#[must_use]
pub fn timestamp(text: &str) -> Option<String> {
    let mut rest = text;
    let year = number(&mut rest, 4, 4)?;
    literal(&mut rest, "-")?;
    let month = number(&mut rest, 1, 2)?;
    literal(&mut rest, "-")?;
    let day = number(&mut rest, 1, 2)?;
    let date = jiff::civil::Date::new(
        i16::try_from(year).ok()?,
        i8::try_from(month).ok()?,
        i8::try_from(day).ok()?,
    )
    .ok()?;
    if rest.is_empty() {
        return Some(format!("{date}T00:00:00Z"));
    }
    let zoned = !rest.starts_with(' ');
    rest = rest.strip_prefix(['T', 't', ' '])?;
    let hour = number(&mut rest, 1, 2)?;
    literal(&mut rest, ":")?;
    let minute = number(&mut rest, 1, 2)?;
    literal(&mut rest, ":")?;
    let second = number(&mut rest, 1, 2)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut fraction = String::new();
    if let Some(after) = rest.strip_prefix('.') {
        let length = after.bytes().take_while(u8::is_ascii_digit).count();
        let digits = after
            .get(..length)
            .filter(|d| !d.is_empty() && d.len() <= 9)?;
        rest = after.get(length..)?;
        let digits = digits.trim_end_matches('0');
        if !digits.is_empty() {
            fraction = format!(".{digits}");
        }
    }
    let zone = if zoned {
        offset(rest)?
    } else {
        rest.is_empty().then(|| "Z".to_owned())?
    };
    Some(format!(
        "{date}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}"
    ))
}

fn offset(text: &str) -> Option<String> {
    if text == "Z" {
        return Some("Z".to_owned());
    }
    let mut rest = text.strip_prefix(['+', '-'])?;
    let hours = number(&mut rest, 2, 2)?;
    literal(&mut rest, ":")?;
    let minutes = number(&mut rest, 2, 2)?;
    if !rest.is_empty() || hours > 24 || minutes > 59 {
        return None;
    }
    Some(if hours == 0 && minutes == 0 {
        "Z".to_owned()
    } else {
        text.to_owned()
    })
}

fn number(rest: &mut &str, least: usize, most: usize) -> Option<u32> {
    let length = rest
        .bytes()
        .take_while(u8::is_ascii_digit)
        .count()
        .min(most);
    if length < least {
        return None;
    }
    let value = rest.get(..length)?.parse().ok()?;
    *rest = rest.get(length..)?;
    Some(value)
}

fn literal(rest: &mut &str, wanted: &str) -> Option<()> {
    *rest = rest.strip_prefix(wanted)?;
    Some(())
}
