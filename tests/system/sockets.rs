//! Many sockets on one API process, in small: the benchmark itself, which fails when one of them
//! misses a frame or when a reader who never reads is not dropped.

use std::process::Command;

use serde_json::Value;

#[test]
fn a_crowd_costs_little_and_who_never_reads_delays_nobody() {
    let bench = Command::new(env!("CARGO_BIN_EXE_hub"))
        .args(["bench", "sockets", "--json", "--seconds", "2"])
        .args(["--idle", "300", "--busy", "50"])
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap_or_default())
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&bench.stderr);
    assert!(bench.status.success(), "{said}");
    let shown = String::from_utf8_lossy(&bench.stdout);
    let rows: Vec<Value> = shown
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON object a line"))
        .collect();
    let [opened, crowded, beside_slow] = rows.as_slice() else {
        panic!("three rows: {shown}");
    };
    assert_eq!(opened["name"], "sockets opened");
    // 200 changes, five sockets each, in about two seconds.
    for row in [crowded, beside_slow] {
        assert_eq!(row["clients"], 50, "{row}");
        assert!(row["per_s"].as_f64() > Some(100.0), "{row}");
        let (half, most) = (row["p50_ms"].as_f64(), row["p99_ms"].as_f64());
        assert!(half > Some(0.0) && most >= half, "{row}");
        // Far below the seconds that a blocked fan-out would take, far above a busy machine's.
        assert!(most < Some(2_000.0), "{row}");
    }
    assert!(said.contains("dropped with 4009"), "{said}");
    let memory = said
        .lines()
        .find_map(|line| line.split_once(" KiB of memory"));
    let (kib, _) = memory.expect("the memory of a socket");
    let kib: f64 = kib.trim().parse().expect("a number");
    // Buffers of 128 KiB for everybody were once most of it.
    assert!(kib > 0.0 && kib < 100.0, "{said}");
}
