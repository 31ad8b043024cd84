//! What a person who runs the hub meets: precedence, sentences about mistakes, masked output.

mod development;
mod operating;
mod reading;

use std::collections::HashMap;
use std::path::PathBuf;

use hub_config::Settings;

/// A folder that disappears with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("hub-config-{}", uuid::Uuid::now_v7().simple());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self, text: &str) -> String {
        let file = self.0.join("hub.toml");
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _best_effort = std::fs::remove_dir_all(&self.0);
    }
}

fn env(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> + use<> {
    let map: HashMap<String, String> = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    move |name| map.get(name).cloned()
}

fn load(pairs: &[(&str, &str)]) -> Settings {
    Settings::load(env(pairs)).unwrap()
}

fn sentence(pairs: &[(&str, &str)]) -> String {
    Settings::load(env(pairs)).err().unwrap().to_string()
}
