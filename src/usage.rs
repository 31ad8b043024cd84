//! `hub usage`: what was used on each of the last 30 days.

use anyhow::Result;
use chrono::{Days, Utc};
use hub_config::Role;
use hub_store::usage::{Line, report};

use crate::roles;

/// Days before this one that are shown as well.
const EARLIER: Days = Days::new(29);

/// `hub usage`
pub fn run(json: bool) -> Result<()> {
    let settings = roles::load(Role::Migrate)?;
    let url = settings.database.url.unwrap_or_default();
    roles::runtime()?.block_on(async {
        let pool = hub_store::connect(&url, 1).await?;
        let today = Utc::now().date_naive();
        let lines = report(&pool, today - EARLIER, today + Days::new(1)).await?;
        if json {
            for line in &lines {
                println!("{}", serde_json::to_string(line)?);
            }
        } else {
            print!("{}", table(&lines));
        }
        Ok(())
    })
}

fn table(lines: &[Line]) -> String {
    let mut table = format!(
        "{:<12} {:<12} {:>12} {:>8}\n",
        "day (UTC)", "of", "requests", "users"
    );
    for line in lines {
        let day = line.day.to_string();
        let of = line.platform.as_deref().unwrap_or("hub");
        table += &format!(
            "{day:<12} {of:<12} {:>12} {:>8}\n",
            line.requests, line.users
        );
    }
    table
}
