//! `hub translate`: what the hub makes of a raw body, without touching anything.

use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use hub_config::Settings;
use hub_domain::platform::{App, Platform, adapter};
use hub_domain::secret::Secret;
use serde_json::Value;

pub fn run(platform: Platform, file: &Path, account: Option<&str>) -> Result<()> {
    let settings = Settings::for_inspection(|name| std::env::var(name).ok())?;
    let adapter =
        adapter(platform).ok_or_else(|| anyhow!("there is no adapter for {platform} yet"))?;
    let raw = read(file)?;
    let mut app = settings.app(platform);
    if let Some(word) = another_word(&app, &raw) {
        app.webhook_secret = word;
    }
    let facts = adapter.translate(&app, account, &raw)?;
    let mut out = std::io::stdout().lock();
    for fact in facts {
        writeln!(out, "{}", serde_json::to_string(&fact)?)?;
    }
    Ok(())
}

/// The word that notifications of Teams carry, when none of them carries this installation's: a kept
/// body is shown as the installation read it that had asked for it. Nobody has to be kept out here.
fn another_word(app: &App, raw: &[u8]) -> Option<Secret> {
    let body: Value = serde_json::from_slice(raw).ok()?;
    let words = || {
        let items = body["value"].as_array().into_iter().flatten();
        items.filter_map(|item| item["clientState"].as_str())
    };
    let ours = words().any(|word| word == app.webhook_secret.expose());
    words().next().filter(|_| !ours).map(Secret::from)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    if file == Path::new("-") {
        let mut raw = Vec::new();
        std::io::stdin()
            .read_to_end(&mut raw)
            .context("standard input cannot be read")?;
        return Ok(raw);
    }
    std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_another_installation_is_taken_for_ours() {
        let app = App {
            webhook_secret: "ours".into(),
            ..App::default()
        };
        let word = |body: &str| another_word(&app, body.as_bytes());
        let two = r#"{"value":[{"clientState":"theirs"},{"clientState":"odd"}]}"#;
        assert_eq!(word(two).unwrap().expose(), "theirs");
        let mixed = r#"{"value":[{"clientState":"theirs"},{"clientState":"ours"}]}"#;
        for body in [mixed, r#"{"value":[{}]}"#, "{}", "[]", "no json"] {
            assert!(word(body).is_none(), "{body}");
        }
    }
}
