//! The invariants after the chaos.

use crate::Settings;
use crate::driver::{Deeds, processes};
use crate::lab::{Lab, wait_until};

/// Reasons that explain why an attempt ended before its job did.
const REASONS: [&str; 7] = [
    "the engine was killed",
    "the process that ran it exited",
    "the process that ran it stopped sending heartbeats",
    "stopped by the user",
    "stopped",
    "the engine ended",
    "the run ended with an error",
];

pub(crate) fn check(settings: &Settings, calm: &Lab, lab: &Lab, deeds: &Deeds) {
    let lost = "SELECT state || ': ' || COALESCE(reason, '') || (SELECT group_concat('; ' || outcome || ' ' || COALESCE(a.reason, '')
         || ' at ' || COALESCE(reach, 0), '') FROM job_attempts a WHERE a.job_id = jobs.id) FROM jobs WHERE state <> 'done'";
    assert_eq!(lab.ask::<String>(lost), Vec::<String>::new(), "a job is lost");
    let jobs = settings.jobs as usize + 1;
    // An engine exit ends an attempt of each of its jobs.
    let pack: u64 = settings.pack().parse().unwrap();
    assert_eq!(lab.count("SELECT COUNT(*) FROM jobs"), jobs);
    let finished = lab.count("SELECT COUNT(*) FROM attempts WHERE outcome = 'finished'");
    let distinct = lab.count("SELECT COUNT(DISTINCT job_id) FROM attempts WHERE outcome = 'finished'");
    assert_eq!(finished, distinct, "a job was completed twice");
    // A process killed between the last score and the end of its attempt leaves a job that only has to be marked as done.
    assert!(
        (jobs - finished) as u64 <= deeds.kills() * pack,
        "{} jobs are done without an attempt",
        jobs - finished
    );
    assert_eq!(lab.count("SELECT COUNT(*) FROM attempts WHERE ended_ms IS NULL"), 0, "an attempt is open");

    let others = lab.ask::<String>(
        "SELECT outcome || '|' || COALESCE(reason, '') FROM attempts WHERE outcome <> 'finished'",
    );
    for other in &others {
        let (outcome, reason) = other.split_once('|').unwrap();
        let explained = outcome == "lost" || REASONS.iter().any(|known| reason.starts_with(known));
        assert!(explained, "an attempt ended without an explanation: {other}");
    }
    // On a busy machine an engine may be silent, or an orchestrator late, without any disturbance.
    let late = |other: &&String| {
        other.contains("it was silent") || other.contains("stopped sending") || other.starts_with("lost")
    };
    let (most, ended) =
        (deeds.most_ended() * pack, others.iter().filter(|other| !late(other)).count() as u64);
    assert!(ended <= most, "{ended} attempts ended early by {deeds}, at most {most} can");
    assert!(deeds.kills() > 0, "nothing was disturbed");

    for query in [
        "SELECT score_key || document || requests || metrics FROM scored_documents ORDER BY score_key, document",
        "SELECT score_key || metric || COALESCE(value, '-') || COALESCE(stderr, '-') || documents FROM task_scores ORDER BY score_key, metric",
        "SELECT score_key || metric || hex(pairs) FROM document_values ORDER BY score_key, metric",
        "SELECT subject || step || loss || learning_rate || tokens FROM curve_points ORDER BY subject, step",
        "SELECT subject || steps || tokens || first_loss || last_loss || last_losses FROM trainings ORDER BY subject",
    ] {
        let (rows, others) = (lab.ask::<String>(query), calm.ask::<String>(query));
        assert!(!rows.is_empty() && rows == others, "not the same as undisturbed: {query}");
    }
    // Partial files of a killed engine.
    crate::lab::succeeded(&lab.0.run(&["gc"]));
    if settings.real {
        assert!(lab.adapters() == calm.adapters(), "not the same adapters");
    }
    assert_eq!(lab.ask::<String>("PRAGMA integrity_check"), ["ok"]);
    let folder = lab.0.path().canonicalize().unwrap();
    wait_until("no process is left over", || {
        processes().iter().all(|process| process.folder.as_ref() != Some(&folder))
    });
}
