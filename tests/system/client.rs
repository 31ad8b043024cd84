//! An HTTP client that shows the whole answer when a test expected another.

use std::time::Duration;

use serde_json::Value;

/// An answer: status, headers, and the body as JSON (null when it is none).
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Value,
    pub raw: String,
}

impl Answer {
    /// Fails unless the status is this.
    #[track_caller]
    pub fn expect(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{}", self.raw);
        self
    }

    /// Fails unless this is the contract's structured envelope with that status and code.
    #[track_caller]
    pub fn refuses(&self, status: u16, code: &str) {
        self.expect(status);
        assert_eq!(self.body["error"]["code"], code, "{}", self.raw);
        assert!(self.body["error"]["message"].is_string(), "{}", self.raw);
        assert!(self.body["error"]["retryable"].is_boolean(), "{}", self.raw);
    }

    /// A string in the body, by JSON pointer.
    #[track_caller]
    pub fn text(&self, pointer: &str) -> String {
        let found = self.body.pointer(pointer).and_then(Value::as_str);
        found
            .unwrap_or_else(|| panic!("no {pointer} in {}", self.raw))
            .to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    token: String,
}

impl Client {
    pub fn new() -> Self {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            // The web client gives up after this; so do its tests.
            .timeout(Duration::from_secs(10))
            .build()
            .expect("a client");
        Self {
            http,
            token: String::new(),
        }
    }

    /// The same client with a bearer token.
    pub fn bearer(&self, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    pub async fn try_get(&self, url: &str) -> Option<Answer> {
        self.run(self.http.get(url)).await.ok()
    }

    pub async fn get(&self, url: &str) -> Answer {
        self.must(self.http.get(url)).await
    }

    pub async fn delete(&self, url: &str) -> Answer {
        self.must(self.http.delete(url)).await
    }

    /// A DELETE with a body.
    pub async fn delete_with(&self, url: &str, body: &Value) -> Answer {
        self.must(self.json(self.http.delete(url), body)).await
    }

    pub async fn patch(&self, url: &str) -> Answer {
        self.must(self.http.patch(url)).await
    }

    /// A PATCH whose answer may never come.
    pub async fn patch_or_none(&self, url: &str) -> Option<Answer> {
        self.run(self.http.patch(url)).await.ok()
    }

    pub async fn post(&self, url: &str, body: &Value) -> Answer {
        self.must(self.json(self.http.post(url), body)).await
    }

    /// A POST whose answer may never come.
    pub async fn post_or_none(&self, url: &str, body: &Value) -> Option<Answer> {
        self.run(self.json(self.http.post(url), body)).await.ok()
    }

    pub async fn put(&self, url: &str, body: &Value) -> Answer {
        self.must(self.json(self.http.put(url), body)).await
    }

    /// A POST of raw bytes with these headers.
    pub async fn post_raw(&self, url: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let mut request = self.http.post(url).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.must(request).await
    }

    /// The same, when the other side may hang up instead of reading it all.
    pub async fn try_post_raw(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Option<Answer> {
        let mut request = self.http.post(url).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.run(request).await.ok()
    }

    /// Follows redirects like a browser until one leads to a URL with `end` in it.
    pub async fn follow(&self, url: &str, end: &str) -> String {
        let mut url = url.to_owned();
        for _ in 0..10 {
            let answer = self.get(&url).await;
            url = answer
                .header("location")
                .unwrap_or_else(|| panic!("no redirect from {url}: {}", answer.raw))
                .to_owned();
            if url.contains(end) {
                return url;
            }
        }
        panic!("still being redirected: {url}")
    }

    fn json(&self, request: reqwest::RequestBuilder, body: &Value) -> reqwest::RequestBuilder {
        request
            .header("content-type", "application/json")
            .body(body.to_string())
    }

    async fn must(&self, request: reqwest::RequestBuilder) -> Answer {
        self.run(request).await.expect("an answer")
    }

    async fn run(&self, mut request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        let answer = request.send().await?;
        let headers = answer
            .headers()
            .iter()
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        let status = answer.status().as_u16();
        let raw = answer.text().await?;
        Ok(Answer {
            status,
            headers,
            body: serde_json::from_str(&raw).unwrap_or_default(),
            raw,
        })
    }
}
