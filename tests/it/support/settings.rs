//! A configuration file that a test changes line by line.

use std::fmt::Display;

/// The text of a configuration.
#[derive(Debug, Clone)]
pub(crate) struct Settings(String);

impl Settings {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Sets a key of a section to a TOML value, whether or not section and key are there.
    pub(crate) fn set(&mut self, section: &str, key: &str, value: impl Display) -> &mut Self {
        let mut lines: Vec<String> = self.0.lines().map(str::to_owned).collect();
        let header = format!("[{section}]");
        let start = lines.iter().position(|line| line.trim() == header).unwrap_or_else(|| {
            lines.push(header);
            lines.len() - 1
        });
        let is_key = |line: &String| line.split('=').next().is_some_and(|name| name.trim() == key);
        let end = lines[start + 1..].iter().position(|line| line.starts_with('['));
        let end = end.map_or(lines.len(), |end| start + 1 + end);
        let line = format!("{key} = {value}");
        match lines[start + 1..end].iter().position(is_key) {
            Some(place) => lines[start + 1 + place] = line,
            None => lines.insert(start + 1, line),
        }
        self.0 = lines.join("\n") + "\n";
        self
    }

    /// Removes a key of a section.
    pub(crate) fn unset(&mut self, section: &str, key: &str) -> &mut Self {
        let mut inside = false;
        let header = format!("[{section}]");
        let keep = |line: &&str| {
            if line.starts_with('[') {
                inside = line.trim() == header;
            }
            !(inside && line.split('=').next().is_some_and(|name| name.trim() == key))
        };
        self.0 = self.0.lines().filter(keep).collect::<Vec<_>>().join("\n") + "\n";
        self
    }
}

#[test]
fn keys_are_replaced_added_and_removed() {
    let mut settings = Settings::new("[a]\nx = 1\n\n[b]\nx = 2\n".to_owned());
    settings.set("b", "x", 3).set("a", "y", "\"z\"").set("c", "x", true);
    assert_eq!(settings.text(), "[a]\ny = \"z\"\nx = 1\n\n[b]\nx = 3\n[c]\nx = true\n");
    settings.unset("a", "x");
    assert_eq!(settings.text(), "[a]\ny = \"z\"\n\n[b]\nx = 3\n[c]\nx = true\n");
}
