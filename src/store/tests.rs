//! Databases of earlier releases, and reading scores.

use super::*;
use crate::job::{Digest, JobId};

/// A database with version 4 of the schema, with a sweep of two jobs and a base model.
async fn database_of_version_4(path: &std::path::Path) {
    let all = sqlx::migrate!();
    let migrations: Vec<_> =
        all.migrations.iter().filter(|migration| migration.version <= 4).cloned().collect();
    let old = sqlx::migrate::Migrator { migrations: migrations.into(), ..sqlx::migrate::Migrator::DEFAULT };
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true).foreign_keys(false);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    old.run(&pool).await.unwrap();
    let settings = |rank: i64| {
        format!(
            r#"{{"lora.rank":[{rank},"axis"],"seed":[1,"axis"],"train.strict":[true,"axis"],"lora.layers":[["query","value"],"axis"]}}"#
        )
    };
    let mut statements = vec![
        "INSERT INTO sweeps VALUES (1, 's', 0)".to_owned(),
        r#"INSERT INTO sweep_versions (sweep_id, version, text, axes, tasks, objective_task, objective_metric, created_ms)
           VALUES (1, 1, '', '["lora.rank","seed","train.strict","lora.layers"]', '["t"]', 't', 'acc', 0)"#.to_owned(),
    ];
    for (position, (job, kind, rank, score)) in
        [("base", "base", 0, 0.5), ("a", "train", 8, 0.5), ("b", "train", 16, 1.0)].into_iter().enumerate()
    {
        let key = Digest::of(job.as_bytes());
        let settings = if rank == 0 { "{}".to_owned() } else { settings(rank) };
        statements.extend([
            format!("INSERT INTO jobs VALUES ('{job}', 'of-{job}', '{kind}', 'done', 1, NULL, 'm', 'fp32', '{settings}', 1, 0)"),
            format!("INSERT INTO sweep_jobs VALUES (1, 1, {position}, '{job}', 'r={rank} seed=1')"),
            format!("INSERT INTO wanted_scores VALUES (1, 1, '{job}', 0, '{key}')"),
            format!("INSERT INTO scores VALUES ('{key}', 'acc', 'of-{job}', 't', {score}, 0.1, 2, 1)"),
            format!("INSERT INTO documents VALUES ('{key}', 0, '[]', '[1.0]'), ('{key}', 1, '[]', '[{}]')", 2.0 * score - 1.0),
            format!("INSERT INTO curves VALUES ('of-{job}', 1, 2.5, 0.1, 10, 1.0, NULL)"),
            format!("INSERT INTO attempts (job_id, attempt, owner, device, threads, token_budget, log, started_ms) VALUES ('{job}', 1, 'o', 'cpu', 1, 1, 'l', 0)"),
        ]);
    }
    for statement in &statements {
        sqlx::query(sqlx::AssertSqlSafe(statement.as_str())).execute(&pool).await.unwrap();
    }
    pool.close().await;
}

/// The first two rows, and the total number of rows.
async fn first_two(store: &Store) -> (Leaderboard, usize) {
    let metrics = |_: &Leaderboard| vec![("t".to_owned(), crate::task::Metric::Acc)];
    let first = store.first_rows(None, 2, metrics).await.unwrap().unwrap();
    (first.board, first.all)
}

#[tokio::test]
async fn a_sweep_reads_the_same_scores_whether_it_is_most_of_the_database_or_little_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.db");
    database_of_version_4(&path).await;
    let store = Store::open(&path).await.unwrap();
    let shown = |board: &Leaderboard| {
        let job = |job: &BoardJob| format!("{} {:?} {:?}", job.id, job.settings, job.scores);
        board.jobs.iter().map(job).collect::<Vec<_>>()
    };
    let (whole, first) = (store.leaderboard(None).await.unwrap(), first_two(&store).await);
    assert!(whole.jobs.iter().all(|job| job.scores.len() == 1));
    // A score of a job that the sweep does not want, and many jobs of no sweep.
    let other = Digest::of(b"other").to_string();
    let foreign = "INSERT INTO task_scores VALUES ('t', 'acc', $1, 'of-a', 0.9, 0.1, 50, 1)";
    sqlx::query(foreign).bind(&other).execute(&store.pool).await.unwrap();
    for number in 0..40 {
        let insert = "INSERT INTO jobs (id, subject, kind, state, model_identity, dtype, settings, trainable, created_ms)
                      VALUES ($1, $1, 'train', 'queued', 'm', 'fp32', '{}', 1, 0)";
        sqlx::query(insert).bind(format!("other-{number}")).execute(&store.pool).await.unwrap();
    }
    let (again, first_again) = (store.leaderboard(None).await.unwrap(), first_two(&store).await);
    assert_eq!(shown(&whole), shown(&again));
    assert_eq!((shown(&first.0), first.1), (shown(&first_again.0), first_again.1));
    let some = ScoresOf { metrics: Some(&[("t".to_owned(), crate::task::Metric::Acc)]), jobs: Some(&[2]) };
    let mut board = store.board(None).await.unwrap();
    store.read_scores(&mut board, some).await.unwrap();
    assert_eq!(board.jobs.iter().map(|job| job.scores.len()).collect::<Vec<_>>(), [0, 0, 1]);
    store.close().await;
}

#[tokio::test]
async fn a_database_of_before_is_brought_up_to_date_with_all_that_it_holds() {
    use crate::job::Value;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.db");
    database_of_version_4(&path).await;
    let store = Store::open(&path).await.unwrap();
    let board = store.leaderboard(None).await.unwrap();
    let scores: Vec<f64> =
        board.jobs.iter().map(|job| job.score("t", crate::task::Metric::Acc).unwrap().value).collect();
    assert_eq!(scores, [0.5, 0.5, 1.0]);
    let (first, all) = first_two(&store).await;
    assert_eq!(
        (first.jobs.iter().map(|job| job.id.as_str()).collect::<Vec<_>>(), all),
        (vec!["base", "b"], 3)
    );
    // Axes keep their types.
    let layers = Value::List(vec!["query".into(), "value".into()]);
    assert_eq!(first.jobs[1].settings["train.strict"], Value::Bool(true));
    assert_eq!(first.jobs[1].settings["lora.layers"], layers);
    // Documents from earlier releases have no stored values: they are computed from the recorded scores.
    let values = store.values_of_jobs(&board, ("t", crate::task::Metric::Acc), &[1, 2]).await.unwrap();
    assert_eq!(values[&JobId::from_store("a".into())], ByDocument::from([(0, 1.0), (1, 0.0)]));
    let id = JobId::from_store("b".into());
    assert_eq!(store.document_values(&board, &id).await.unwrap()[0].value, 1.0);
    let [first, other] = store.values_of_both(&id, &JobId::from_store("a".into())).await.unwrap();
    assert_eq!((first[0].value, other[0].value), (1.0, 0.5));
    store.close().await;
    for (view, rows) in
        [("runs", 3), ("scores", 3), ("curves", 3), ("documents", 6), ("attempts", 3), ("samples", 0)]
    {
        let sql = format!("SELECT COUNT(*) FROM {view}");
        let found = query(&path, &sql, std::time::Duration::from_secs(30)).await.unwrap();
        assert_eq!(found.rows, [[Datum::Integer(rows)]], "{view}");
    }
}
