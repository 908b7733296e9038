//! What the operator wrote, still as text: defaults, below the file, below the environment, below flags.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::table::{Kind, SETTINGS, Setting};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody wrote it.
    Default,
    /// This line of the configuration file.
    File(PathBuf, usize),
    /// This variable of the environment.
    Environment(String),
    /// This flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File(path, line) => write!(formatter, "{}:{line}", path.display()),
            Self::Environment(variable) => formatter.write_str(variable),
            Self::Flag(flag) => write!(formatter, "--{flag}"),
        }
    }
}

/// Why the settings cannot be used. Every variant says where.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The named file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// There is no such setting.
    #[error("{origin}: unknown setting `{name}`{}", suggestion(nearest))]
    Unknown {
        /// Where it was written.
        origin: Origin,
        /// What was written.
        name: String,
        /// The known setting most like it, if any is.
        nearest: Option<String>,
    },
    /// The value means nothing for this setting.
    #[error("{origin}: invalid value `{value}` for `{name}`: {expected}")]
    Invalid {
        /// Where it was written.
        origin: Origin,
        /// The setting.
        name: &'static str,
        /// What was written.
        value: String,
        /// What would have been right.
        expected: String,
    },
    /// A secret stands where others can read it.
    #[error("{origin}: `{name}` is a secret: give it as {variable} in the environment")]
    Secret {
        /// Where it was written.
        origin: Origin,
        /// The setting.
        name: &'static str,
        /// Its variable.
        variable: String,
    },
    /// Settings that exclude each other.
    #[error("{0}")]
    Conflict(String),
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(", did you mean `{name}`?")).unwrap_or_default()
}

/// Each setting's text and where it comes from.
#[derive(Clone, Debug)]
pub struct Layers(BTreeMap<&'static str, (String, Origin)>);

impl Layers {
    /// Nothing but defaults.
    pub fn defaults() -> Self {
        Self(
            SETTINGS
                .iter()
                .map(|setting| (setting.name, (setting.default.to_owned(), Origin::Default)))
                .collect(),
        )
    }

    /// The text of a setting and its origin.
    ///
    /// # Panics
    /// If there is no such setting: a mistake in the program.
    pub fn get(&self, name: &str) -> (&str, &Origin) {
        let (value, origin) = &self.0[name];
        (value, origin)
    }

    fn set(&mut self, setting: &'static Setting, value: String, origin: Origin) {
        // Pairs add to what lies below: naming one rate does not unset the others.
        let value = match (setting.kind, self.0.get(setting.name)) {
            (Kind::Map, Some((below, _))) => merge_pairs(below, &value),
            _ => value,
        };
        self.0.insert(setting.name, (value, origin));
    }

    /// Lays a configuration file over what is there.
    ///
    /// # Errors
    /// If the file cannot be read, is not TOML, or names a setting that does not exist.
    pub fn with_file(self, path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
        self.with_file_text(path, &text)
    }

    fn with_file_text(mut self, path: &Path, text: &str) -> Result<Self, SettingsError> {
        let file = File { path, text };
        let table = DeTable::parse(text).map_err(|error| SettingsError::Syntax {
            path: path.to_owned(),
            line: error.span().map_or(1, |span| file.line(&span)),
            message: error.message().trim().replace('\n', " "),
        })?;
        self.with_table(&file, "", table.get_ref())?;
        Ok(self)
    }

    fn with_table(
        &mut self,
        file: &File<'_>,
        prefix: &str,
        table: &DeTable<'_>,
    ) -> Result<(), SettingsError> {
        for (key, value) in table {
            let name = format!("{prefix}{}", key.get_ref());
            let origin = Origin::File(file.path.to_owned(), file.line(&key.span()));
            match (Setting::find(&name), value.get_ref()) {
                (Some(setting), _) if setting.is_secret() => {
                    let (name, variable) = (setting.name, setting.variable());
                    return Err(SettingsError::Secret { origin, name, variable });
                }
                (Some(setting), DeValue::Table(pairs)) if setting.kind == Kind::Map => {
                    let pairs: Option<Vec<String>> = pairs
                        .iter()
                        .map(|(name, value)| Some(format!("{}={}", name.get_ref(), scalar(value.get_ref())?)))
                        .collect();
                    let pairs = pairs.ok_or_else(|| invalid(setting, &origin, "a table"))?;
                    self.set(setting, pairs.join(","), origin);
                }
                (Some(setting), value) => {
                    let text = scalar(value).ok_or_else(|| invalid(setting, &origin, "a table or list"))?;
                    self.set(setting, text, origin);
                }
                (None, DeValue::Table(inner)) if is_table(&name) => {
                    self.with_table(file, &format!("{name}."), inner)?;
                }
                (None, _) => {
                    let nearest = nearest(&name, SETTINGS.iter().map(|setting| setting.name.to_owned()));
                    return Err(SettingsError::Unknown { origin, name, nearest });
                }
            }
        }
        Ok(())
    }

    /// Lays `WHARF_…` variables over what is there. Other variables are not looked at.
    ///
    /// # Errors
    /// If a `WHARF_…` variable names a setting that does not exist, or is not text.
    pub fn with_environment(
        mut self,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        for (variable, value) in variables {
            let Some(variable) = variable.to_str().filter(|variable| variable.starts_with("WHARF_")) else {
                continue;
            };
            if variable == "WHARF_CONFIG" || is_set_by_kubernetes(variable) {
                continue;
            }
            let origin = Origin::Environment(variable.to_owned());
            let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == variable) else {
                let nearest = nearest(variable, SETTINGS.iter().map(Setting::variable));
                return Err(SettingsError::Unknown { origin, name: variable.to_owned(), nearest });
            };
            let value =
                value.into_string().map_err(|_| invalid(setting, &origin, "bytes that are not text"))?;
            self.set(setting, value, origin);
        }
        Ok(self)
    }

    /// Lays flags over what is there.
    pub fn with_flags(mut self, flags: &[(&'static Setting, String)]) -> Self {
        for (setting, value) in flags {
            self.set(setting, value.clone(), Origin::Flag(setting.flag()));
        }
        self
    }
}

/// The file being read, to say lines.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn line(&self, span: &Range<usize>) -> usize {
        1 + self.text[..span.start.min(self.text.len())].matches('\n').count()
    }
}

fn invalid(setting: &'static Setting, origin: &Origin, value: &str) -> SettingsError {
    let expected = match setting.kind {
        Kind::Map => "expected a table of names and values",
        _ => "expected one value",
    };
    SettingsError::Invalid {
        origin: origin.clone(),
        name: setting.name,
        value: value.to_owned(),
        expected: expected.to_owned(),
    }
}

/// Whether some setting stands below this name.
fn is_table(name: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// Lays pairs over pairs; what does not parse is kept for the value's own error.
fn merge_pairs(below: &str, above: &str) -> String {
    let name = |pair: &str| pair.split('=').next().unwrap_or_default().trim().to_owned();
    let given: Vec<String> = above.split(',').map(name).collect();
    let kept = below.split(',').filter(|pair| !given.contains(&name(pair)));
    kept.chain(above.split(',')).map(str::trim).filter(|pair| !pair.is_empty()).collect::<Vec<_>>().join(",")
}

/// Kubernetes describes a service named `wharf` to its neighbours in variables of these names.
fn is_set_by_kubernetes(variable: &str) -> bool {
    variable == "WHARF_PORT"
        || variable == "WHARF_SERVICE_HOST"
        || variable.starts_with("WHARF_PORT_")
        || variable.starts_with("WHARF_SERVICE_PORT")
}

/// The known name most like the given one, if they are alike at all.
pub(super) fn nearest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    known
        .map(|known| {
            // The last part alone counts too: `manifest_bytes` wants `limits.manifest_bytes`.
            let last = known.rsplit('.').next().map_or(0.0, |last| strsim::jaro_winkler(name, last));
            (strsim::jaro_winkler(name, &known).max(last), known)
        })
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Layers, String> {
        Layers::defaults().with_file_text(Path::new("wharf.toml"), text).map_err(|error| error.to_string())
    }

    fn environment(variable: &str, value: &str) -> Result<Layers, String> {
        let variables = [(variable.into(), value.into()), ("HOME".into(), "/".into())];
        Layers::defaults().with_environment(variables.into_iter()).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_win_over_environment_over_file_over_defaults() {
        let layers = file("listen = \"a:1\"\ndomain = \"file\"\n[limits]\ndrain = \"1s\"\n").unwrap();
        let variables = [("WHARF_LISTEN", "b:2"), ("WHARF_LIMITS_DRAIN", "2s")];
        let layers =
            layers.with_environment(variables.map(|(k, v)| (k.into(), v.into())).into_iter()).unwrap();
        let layers = layers.with_flags(&[(Setting::find("listen").unwrap(), "c:3".to_owned())]);
        assert_eq!(layers.get("listen"), ("c:3", &Origin::Flag("listen".to_owned())));
        assert_eq!(layers.get("limits.drain"), ("2s", &Origin::Environment("WHARF_LIMITS_DRAIN".to_owned())));
        assert_eq!(layers.get("domain"), ("file", &Origin::File("wharf.toml".into(), 2)));
        assert_eq!(layers.get("token_ttl"), ("12h", &Origin::Default));
    }

    #[test]
    fn unknown_settings_name_the_nearest_known_one_and_the_line() {
        for (text, message) in [
            ("\nlissten = \"x\"", "wharf.toml:2: unknown setting `lissten`, did you mean `listen`?"),
            (
                "[limits]\n\nmanifest_byte = 1",
                "wharf.toml:3: unknown setting `limits.manifest_byte`, did you mean `limits.manifest_bytes`?",
            ),
            (
                "manifest_bytes = 1",
                "wharf.toml:1: unknown setting `manifest_bytes`, did you mean `limits.manifest_bytes`?",
            ),
            (
                "[quota]\nrepositories = 1",
                "wharf.toml:1: unknown setting `quota`, did you mean `quotas.repositories`?",
            ),
            ("zzz = 1", "wharf.toml:1: unknown setting `zzz`"),
        ] {
            assert_eq!(file(text).unwrap_err(), message);
        }
        let error = environment("WHARF_LISTN", "x").unwrap_err();
        assert_eq!(error, "WHARF_LISTN: unknown setting `WHARF_LISTN`, did you mean `WHARF_LISTEN`?");
        environment("WHARF_SERVICE_PORT_HTTP", "80").unwrap();
    }

    #[test]
    fn what_is_not_toml_or_has_the_wrong_form_is_refused_with_its_line() {
        assert!(file("listen = \"a\"\nlisten = ").unwrap_err().starts_with("wharf.toml:2: "));
        assert!(file("listen = [1]").unwrap_err().contains("expected one value"));
        assert!(file("[hosts]\na = { b = 1 }").unwrap_err().contains("expected a table of names and values"));
        assert!(file("root_key = \"x\"").unwrap_err().contains("WHARF_ROOT_KEY"));
    }

    #[test]
    fn pairs_add_to_the_pairs_below() {
        let layers = file("[throttle.rates]\nPutImage = 50\n[hosts]\n\"r.example\" = \"public\"").unwrap();
        let rates = layers.get("throttle.rates").0;
        assert!(rates.contains("PutImage=50") && rates.contains("UploadLayerPart=500"), "{rates}");
        assert_eq!(rates.matches("PutImage").count(), 1);
        assert_eq!(layers.get("hosts").0, "r.example=public");
    }
}
