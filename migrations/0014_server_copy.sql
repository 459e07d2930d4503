-- Which server this file is a copy of, and the oldest transaction that was open there when it was copied last. Absent in a file of its own.
CREATE TABLE server_copy (
    server TEXT PRIMARY KEY,
    since TEXT NOT NULL
);
