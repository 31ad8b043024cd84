//! `hub verify`: read models against the log, the log against its seals.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use hub_config::Role;
use hub_store::PgPool;
use hub_store::generation::{End, Verdict};
use hub_store::project::Projection;
use hub_store::seal::{self, Report, SealKey};

use crate::cli::What;
use crate::replay::{self, How};
use crate::roles;

/// `hub verify`
pub fn run(what: What, against: Option<&Path>, json: bool) -> Result<()> {
    let (projections, log): (&[Projection], bool) = match what {
        What::Accounts => (&[Projection::Accounts], false),
        What::Inbox => (&[Projection::Inbox], false),
        What::Log => (&[], true),
        What::All => (&Projection::ALL, true),
    };
    if against.is_some() && !log {
        bail!("--against compares seals: it goes with `log` or `all`");
    }
    let settings = roles::load(Role::Migrate)?;
    let secret = &settings.auth.encryption_key;
    let key = (!secret.is_empty()).then(|| SealKey::new(secret));
    let exported = against.map(open).transpose()?;
    roles::runtime()?.block_on(async {
        let pool = replay::connect(&settings).await?;
        let different = replay::rebuild(&pool, projections, How::Again, End::Drop, json).await?;
        let mut complaints = Vec::new();
        if !different.is_empty() {
            complaints.push(replay::differs(&different));
        }
        if log && check_log(&pool, key.as_ref(), exported, json).await? == Verdict::Different {
            complaints.push("the log is not what was sealed".to_owned());
        }
        if !complaints.is_empty() {
            bail!("{}", complaints.join("; "));
        }
        Ok(())
    })
}

fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(BufReader::new(file))
}

async fn check_log(
    pool: &PgPool,
    key: Option<&SealKey>,
    mut exported: Option<BufReader<File>>,
    json: bool,
) -> Result<Verdict> {
    let exported = exported
        .as_mut()
        .map(|lines| lines as &mut (dyn BufRead + Send));
    let report = seal::verify(pool, key, exported).await?;
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", text(&report));
    }
    Ok(report.verdict)
}

/// The report for people.
fn text(it: &Report) -> String {
    let seals: u64 = it.shards.iter().map(|shard| shard.seals).sum();
    let mut lines = vec![format!(
        "log: {} events in {} shards",
        it.events,
        it.shards.len()
    )];
    lines.push(format!(
        "  as sealed      {} events, by {seals} seals",
        it.verified
    ));
    lines.push(format!("  unsealed       {} events", it.unsealed));
    lines.push(
        if it.macs_checked {
            "  made by us     checked"
        } else {
            "  made by us     NOT CHECKED: that needs ENCRYPTION_KEY"
        }
        .to_owned(),
    );
    if let Some(same) = it.exported_seals {
        lines.push(format!("  exported       {same} seals are the same"));
    }
    for shard in &it.shards {
        if let Some(late) = &shard.late {
            lines.push(format!(
                "  late           {}-{} of {} was sealed only {}: was the worker standing still?",
                shard.shard,
                late.through,
                late.recorded_at.format("%Y-%m-%d %H:%M"),
                late.sealed_at.format("%Y-%m-%d %H:%M")
            ));
        }
    }
    let findings = it.shards.iter().flat_map(|shard| &shard.findings);
    lines.extend(findings.map(|finding| format!("  WRONG          {finding}")));
    lines.push(
        match it.verdict {
            Verdict::Equal => "  verdict        equal",
            Verdict::Different => "  verdict        DIFFERENT",
        }
        .to_owned(),
    );
    lines.join("\n") + "\n"
}
