-- Uploads that were cancelled or finished, as long as their ids could still begin one. Ids begin with the time.
CREATE TABLE ended_uploads (
    id TEXT NOT NULL PRIMARY KEY
) WITHOUT ROWID;
