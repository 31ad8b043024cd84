//! Reading one typed value out of the merged layers.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use hub_domain::secret::Secret;
use url::Url;

use crate::error::SettingsError;
use crate::layers::{Layers, Raw};

impl Layers {
    pub(crate) fn text(&self, path: &str) -> &str {
        match &self.entry(path).0 {
            Raw::Text(text) => text,
            Raw::List(_) => "",
        }
    }

    pub(crate) fn text_opt(&self, path: &str) -> Option<&str> {
        Some(self.text(path)).filter(|text| !text.is_empty())
    }

    pub(crate) fn secret(&self, path: &str) -> Secret {
        Secret::new(self.text(path))
    }

    pub(crate) fn port(&self, path: &str) -> Result<u16, SettingsError> {
        let expected = "a port number between 1 and 65535";
        self.parse(path, expected, |port: &u16| *port > 0)
    }

    pub(crate) fn address(&self, path: &str) -> Result<IpAddr, SettingsError> {
        self.parse(path, "an IP address such as 0.0.0.0 or ::1", |_| true)
    }

    /// An address with a port; `None` when not set.
    pub(crate) fn socket_opt(&self, path: &str) -> Result<Option<SocketAddr>, SettingsError> {
        if self.text_opt(path).is_none() {
            return Ok(None);
        }
        let expected = "an address with a port such as 127.0.0.1:9100 or [::1]:9100";
        self.parse(path, expected, |_| true).map(Some)
    }

    /// A whole number in a range that its comment implies; the sentence does not repeat the bounds.
    pub(crate) fn number<N>(&self, path: &str, range: RangeInclusive<N>) -> Result<N, SettingsError>
    where
        N: std::str::FromStr + PartialOrd,
    {
        let expected = "a whole number in a sensible range, as config/default.toml explains";
        self.parse(path, expected, |number| range.contains(number))
    }

    pub(crate) fn millis(&self, path: &str) -> Result<Duration, SettingsError> {
        let expected = "a number of milliseconds between 1 and 86400000 (a day)";
        let millis = self.parse(path, expected, |ms: &u64| (1..=86_400_000).contains(ms))?;
        Ok(Duration::from_millis(millis))
    }

    pub(crate) fn seconds(&self, path: &str, min: u64) -> Result<Duration, SettingsError> {
        let expected = "a number of seconds, at most 31536000 (a year)";
        let seconds = self.parse(path, expected, |s: &u64| (min..=31_536_000).contains(s))?;
        Ok(Duration::from_secs(seconds))
    }

    pub(crate) fn switch(&self, path: &str) -> Result<bool, SettingsError> {
        let choices = [
            ("true", true),
            ("false", false),
            ("1", true),
            ("0", false),
            ("on", true),
            ("off", false),
        ];
        self.choice(path, &choices, "true or false")
    }

    pub(crate) fn choice<T: Copy>(
        &self,
        path: &str,
        choices: &[(&str, T)],
        expected: &'static str,
    ) -> Result<T, SettingsError> {
        let text = self.text(path);
        choices
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text))
            .map(|(_, value)| *value)
            .ok_or_else(|| self.invalid(path, expected))
    }

    /// An http(s) base URL without its trailing slash; `None` when not set.
    pub(crate) fn base_url(&self, path: &str) -> Result<Option<String>, SettingsError> {
        let Some(text) = self.text_opt(path) else {
            return Ok(None);
        };
        let fits = Url::parse(text).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
                && url.password().is_none()
        });
        if fits {
            Ok(Some(text.trim_end_matches('/').to_owned()))
        } else {
            Err(self.invalid(path, "an address such as https://hub.example.com"))
        }
    }

    /// The URL of a server, as a secret because it may contain a password.
    pub(crate) fn server_url(
        &self,
        path: &str,
        schemes: &[&str],
    ) -> Result<Option<Secret>, SettingsError> {
        let Some(text) = self.text_opt(path) else {
            return Ok(None);
        };
        match Url::parse(text) {
            Ok(url) if schemes.contains(&url.scheme()) => Ok(Some(Secret::new(text))),
            _ if schemes.contains(&"postgres") => Err(self.invalid(
                path,
                "a URL such as postgres://user:password@host:5432/name",
            )),
            _ => Err(self.invalid(path, "a URL such as redis://:password@host:6379")),
        }
    }

    pub(crate) fn origins(&self, path: &str) -> Result<Vec<String>, SettingsError> {
        let Raw::List(items) = &self.entry(path).0 else {
            return Ok(Vec::new());
        };
        let expected = "origins such as https://app.example.com, without a path, or *";
        items
            .iter()
            .map(|item| match item.as_str() {
                "*" => Ok("*".to_owned()),
                text => Url::parse(text)
                    .ok()
                    .filter(|url| url.path() == "/" && url.query().is_none())
                    .and_then(|_| parse_origin(text))
                    .ok_or_else(|| self.invalid(path, expected)),
            })
            .collect()
    }

    fn parse<T: std::str::FromStr>(
        &self,
        path: &str,
        expected: &'static str,
        fits: impl Fn(&T) -> bool,
    ) -> Result<T, SettingsError> {
        self.text(path)
            .parse()
            .ok()
            .filter(fits)
            .ok_or_else(|| self.invalid(path, expected))
    }
}

/// The origin of an http(s) URL, as browsers write it in their `Origin` header.
pub(crate) fn parse_origin(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    matches!(url.scheme(), "http" | "https").then(|| url.origin().ascii_serialization())
}
