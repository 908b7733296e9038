//! `wharf config`: the settings in effect, as a file that could be used, with the origin of each.

use std::fmt::Write as _;

use super::{Kind, Layers, Origin, SETTINGS, Setting};

impl Layers {
    /// All settings as TOML, each with its help and its origin.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut table = "";
        // Keys of the top level come first, as TOML wants it; `hosts` and `throttle.rates` are tables themselves.
        let (tables, plain): (Vec<&Setting>, Vec<&Setting>) =
            SETTINGS.iter().partition(|setting| setting.kind == Kind::Map);
        let (nested, top): (Vec<&Setting>, Vec<&Setting>) =
            plain.into_iter().partition(|setting| setting.name.contains('.'));
        for setting in top.into_iter().chain(nested) {
            let (parent, key) = setting.name.rsplit_once('.').unwrap_or(("", setting.name));
            if parent != table {
                let _ = writeln!(text, "[{parent}]");
                table = parent;
            }
            let (value, origin) = self.get(setting.name);
            let _ = writeln!(text, "# {}", setting.help);
            let unset = value.is_empty() || setting.is_secret();
            let (mark, value) = (if unset { "# " } else { "" }, self.shown(setting, value));
            let _ = writeln!(text, "{mark}{key} = {value}  # {origin}\n");
        }
        for setting in tables {
            let (value, origin) = self.get(setting.name);
            let _ = writeln!(text, "# {}\n[{}]  # {origin}", setting.help, setting.name);
            for (name, value) in value.split(',').filter_map(|pair| pair.split_once('=')) {
                let value = if value.parse::<u64>().is_ok() { value.to_owned() } else { quoted(value) };
                let _ = writeln!(text, "{} = {value}", quoted(name));
            }
            text.push('\n');
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// All settings as JSON: name → value and origin.
    pub fn to_json(&self) -> serde_json::Value {
        SETTINGS
            .iter()
            .map(|setting| {
                let (value, origin) = self.get(setting.name);
                let value = match setting.is_secret() && !value.is_empty() {
                    true => "…".to_owned(),
                    false => setting.presentable(value),
                };
                (
                    setting.name.to_owned(),
                    serde_json::json!({
                        "value": value,
                        "origin": origin.to_string(),
                        "variable": setting.variable(),
                    }),
                )
            })
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    fn shown(&self, setting: &Setting, value: &str) -> String {
        match setting.kind {
            _ if setting.is_secret() && *self.get(setting.name).1 != Origin::Default => quoted("…"),
            Kind::Bool | Kind::Number => value.to_owned(),
            _ => quoted(&setting.presentable(value)),
        }
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_read_back() {
        let flags = [(Setting::find("hosts").unwrap(), "a.example=public".to_owned())];
        let layers = Layers::defaults().with_flags(&flags);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wharf.toml");
        std::fs::write(&path, layers.to_toml()).unwrap();
        let read = Layers::defaults().with_file(&path).unwrap();
        for setting in SETTINGS {
            let pairs = |text: &str| {
                let mut pairs: Vec<_> = text.split(',').map(str::to_owned).collect();
                pairs.sort();
                pairs
            };
            assert_eq!(
                pairs(read.get(setting.name).0),
                pairs(layers.get(setting.name).0),
                "{}",
                setting.name
            );
        }
    }

    #[test]
    fn the_password_of_the_metadata_is_not_shown() {
        for url in
            ["postgres://wharf:s3cret@db/wharf?sslmode=verify-full", "postgres://wharf:s3cret@db:port/wharf"]
        {
            let layers = Layers::defaults()
                .with_environment([("WHARF_METADATA".into(), url.into())].into_iter())
                .unwrap();
            assert!(!layers.to_toml().contains("s3cret") && !layers.to_json().to_string().contains("s3cret"));
            let refused = crate::settings::Settings::from_layers(&layers);
            assert!(!format!("{:?}", refused.map_err(|error| error.to_string())).contains("s3cret"));
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlYyE=";
        let layers = Layers::defaults()
            .with_environment([("WHARF_ROOT_KEY".into(), secret.into())].into_iter())
            .unwrap();
        assert!(!layers.to_toml().contains("c2Vj") && !layers.to_json().to_string().contains("c2Vj"));
        assert_eq!(layers.get("root_key").0, secret);
    }
}
