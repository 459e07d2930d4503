-- Generated answers, each text once. `answers` of a document is a JSON list of digests, one for each repetition; NULL for documents
-- of log-likelihoods.
CREATE TABLE answer_texts (
    digest TEXT PRIMARY KEY,
    text TEXT NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE scored_documents ADD COLUMN answers TEXT;
