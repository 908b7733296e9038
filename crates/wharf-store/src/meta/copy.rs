//! Copying all metadata from one database to another, whatever their engines: table by table in the order in which they
//! refer to each other, row by row in the order of their keys. What the tables are is read from the migrations, so that
//! no new table is forgotten.
//!
//! Until everything is there and compared, the destination's deployment is called `migrating:<id>`, which belongs to no
//! object store, so that no server serves half of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::Connection;
use sha2::{Digest as _, Sha256};

use super::dialect::{Dialect, placeholders, value_rows};
use super::{MIGRATIONS, Meta, MetaError, Param, Row, Tx, Value, accounts};
use crate::object::ObjectId;

/// Before the id of a deployment that is not whole yet.
const UNFINISHED: &str = "migrating:";
/// The table with the deployment's id, which comes last.
const DEPLOYMENT: &str = "deployment";
/// Uploads that are not complete live in a store's own form; clients begin them anew.
const LEFT_OUT: [&str; 1] = ["uploads"];
/// Rows of a batch; of a table with content, whose rows may be megabytes.
const ROWS: usize = 1000;
const ROWS_WITH_CONTENT: usize = 32;
/// Placeholders of a statement.
const PLACEHOLDERS: usize = 16_000;
/// Objects whose bytes are to be moved: not those of uploads, nor those that are being deleted.
const LASTING: &str = "state IN ('live', 'trashed', 'quarantined')";

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
    Bytes,
    Boolean,
}

/// One table of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    name: String,
    columns: Vec<(String, Kind)>,
    /// Places of the key's columns, in the key's order.
    key: Vec<usize>,
    /// Whether the database numbers the rows.
    numbered: bool,
}

/// What a table holds: how many rows, and a sum of their digests, whatever their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableSum {
    /// Rows.
    pub rows: u64,
    digests: u128,
}

/// What is known of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// It holds nothing.
    Empty,
    /// Somebody began to copy this deployment into it.
    Begun,
    /// It is this deployment already.
    Done,
    /// It is another one.
    Stranger(String),
}

/// The bytes of an object, to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// Its name.
    pub id: ObjectId,
    /// Bytes as they are stored.
    pub stored_size: u64,
    /// Whether its content is known to be damaged.
    pub quarantined: bool,
}

/// A value of its own.
enum Cell {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
    Boolean(bool),
}

type Cells = Vec<Cell>;

impl Table {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| &**name).collect();
        names.join(", ")
    }

    fn key_names(&self) -> String {
        let names: Vec<&str> = self.key.iter().map(|place| &*self.columns[*place].0).collect();
        names.join(", ")
    }

    fn batch(&self) -> usize {
        let with_content = self.columns.iter().any(|(_, kind)| *kind == Kind::Bytes);
        if with_content { ROWS_WITH_CONTENT } else { ROWS }
    }

    fn condition(&self) -> Option<&'static str> {
        (self.name == "objects").then_some(LASTING)
    }

    /// The rows after a key.
    fn rows(&self, tx: &mut Tx<'_>, after: Option<&[Cell]>) -> Result<Vec<Cells>, MetaError> {
        let (names, key, limit) = (self.names(), self.key_names(), self.batch());
        let after_key = after.map(|after| format!("({key}) > ({})", placeholders(1, after.len())));
        let conditions: Vec<String> =
            self.condition().map(str::to_owned).into_iter().chain(after_key).collect();
        let condition =
            if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
        let sql = format!("SELECT {names} FROM {} {condition} ORDER BY {key} LIMIT {limit}", self.name);
        let params: Vec<&dyn Param> = after.into_iter().flatten().map(|cell| cell as &dyn Param).collect();
        tx.query_all_dynamic(&sql, &params, |row| {
            self.columns.iter().enumerate().map(|(place, (_, kind))| Cell::read(row, place, *kind)).collect()
        })
    }

    fn key_of(&self, row: &[Cell]) -> Cells {
        self.key.iter().map(|place| row[*place].clone()).collect()
    }

    /// Adds rows; those that are there stay as they are. Answers how many are new.
    fn insert(&self, tx: &mut Tx<'_>, rows: &[Cells]) -> Result<u64, MetaError> {
        let (names, width) = (self.names(), self.columns.len());
        let mut inserted = 0;
        for rows in rows.chunks((PLACEHOLDERS / width).max(1)) {
            let values = value_rows(1, width, rows.len());
            let sql = format!("INSERT INTO {} ({names}) VALUES {values} ON CONFLICT DO NOTHING", self.name);
            let params: Vec<&dyn Param> = rows.iter().flatten().map(|cell| cell as &dyn Param).collect();
            inserted += tx.execute_dynamic(&sql, &params)?;
        }
        Ok(inserted)
    }

    /// The last number given out.
    fn number(&self, tx: &mut Tx<'_>) -> Result<Option<i64>, MetaError> {
        match tx.dialect() {
            Dialect::Sqlite => {
                let sql = "SELECT seq FROM sqlite_sequence WHERE name = $1";
                tx.query_opt(sql, &[&self.name], |row| row.get(0))
            }
            Dialect::Postgres => {
                let sql = format!("SELECT last_value FROM {}_id_seq", self.name);
                tx.query_opt_dynamic(&sql, &[], |row| row.get(0))
            }
        }
    }

    /// Makes sure that no number is given out a second time.
    fn set_number(&self, tx: &mut Tx<'_>, number: i64) -> Result<(), MetaError> {
        match tx.dialect() {
            Dialect::Sqlite => {
                let sql = "UPDATE sqlite_sequence SET seq = MAX(seq, $2) WHERE name = $1";
                if tx.execute(sql, &[&self.name, &number])? == 0 {
                    let sql = "INSERT INTO sqlite_sequence (name, seq) VALUES ($1, $2)";
                    tx.execute(sql, &[&self.name, &number])?;
                }
            }
            Dialect::Postgres => {
                let sql = format!("SELECT setval('{}_id_seq', $1)", self.name);
                tx.query_opt_dynamic(&sql, &[&number], |_| Ok(()))?;
            }
        }
        Ok(())
    }
}

impl Cell {
    fn read(row: &Row<'_>, place: usize, kind: Kind) -> Result<Self, MetaError> {
        Ok(match kind {
            Kind::Text => row.get::<Option<String>>(place)?.map_or(Self::Null, Self::Text),
            Kind::Integer => row.get::<Option<i64>>(place)?.map_or(Self::Null, Self::Integer),
            Kind::Bytes => row.get::<Option<Vec<u8>>>(place)?.map_or(Self::Null, Self::Bytes),
            Kind::Boolean => row.get::<Option<bool>>(place)?.map_or(Self::Null, Self::Boolean),
        })
    }

    fn hash(&self, hasher: &mut Sha256) {
        let (kind, bytes) = match self {
            Self::Null => (0, &[][..]),
            Self::Integer(number) => (1, &number.to_be_bytes()[..]),
            Self::Text(text) => (2, text.as_bytes()),
            Self::Bytes(bytes) => (3, &bytes[..]),
            Self::Boolean(flag) => (4, &[u8::from(*flag)][..]),
        };
        hasher.update([kind]);
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    }
}

impl Clone for Cell {
    fn clone(&self) -> Self {
        match self {
            Self::Null => Self::Null,
            Self::Integer(number) => Self::Integer(*number),
            Self::Text(text) => Self::Text(text.clone()),
            Self::Bytes(bytes) => Self::Bytes(bytes.clone()),
            Self::Boolean(flag) => Self::Boolean(*flag),
        }
    }
}

impl Param for Cell {
    fn value(&self) -> Result<Value<'_>, MetaError> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Integer(number) => Value::Integer(*number),
            Self::Text(text) => Value::Text(text),
            Self::Bytes(bytes) => Value::Bytes(bytes),
            Self::Boolean(flag) => Value::Bool(*flag),
        })
    }
}

impl TableSum {
    fn add(&mut self, row: &[Cell]) {
        let mut hasher = Sha256::new();
        row.iter().for_each(|cell| cell.hash(&mut hasher));
        let digest: [u8; 32] = hasher.finalize().into();
        let half: [u8; 16] = std::array::from_fn(|at| digest[at]);
        self.digests = self.digests.wrapping_add(u128::from_be_bytes(half));
        self.rows += 1;
    }
}

/// The tables to copy, each after those that it refers to.
///
/// # Errors
/// If the schema cannot be made out.
pub fn tables() -> Result<Vec<Table>, MetaError> {
    let conn = Connection::open_in_memory()?;
    for migration in MIGRATIONS {
        conn.execute_batch(migration.sql)?;
    }
    let mut found: BTreeMap<String, (Table, BTreeSet<String>)> = BTreeMap::new();
    let sql = "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let mut statement = conn.prepare(sql)?;
    let names: Vec<(String, String)> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    for (name, definition) in names {
        if name == DEPLOYMENT || LEFT_OUT.contains(&&*name) {
            continue;
        }
        let numbered = definition.contains("AUTOINCREMENT");
        let table = table(&conn, &name, numbered)?;
        let mut parents = conn.prepare("SELECT DISTINCT \"table\" FROM pragma_foreign_key_list($1)")?;
        let parents = parents.query_map([&name], |row| row.get(0))?.collect::<Result<BTreeSet<_>, _>>()?;
        found.insert(name, (table, parents));
    }
    let mut sorted = Vec::new();
    while !found.is_empty() {
        let waits = |(name, (_, parents)): &(&String, &(Table, BTreeSet<String>))| {
            parents.iter().any(|parent| parent != *name && found.contains_key(parent))
        };
        let ready: Vec<String> =
            found.iter().filter(|entry| !waits(entry)).map(|(name, _)| name.clone()).collect();
        if ready.is_empty() {
            return Err(MetaError::other("tables of the schema refer to each other in circles"));
        }
        sorted.extend(ready.iter().filter_map(|name| found.remove(name)).map(|(table, _)| table));
    }
    Ok(sorted)
}

fn table(conn: &Connection, name: &str, numbered: bool) -> Result<Table, MetaError> {
    let mut columns = Vec::new();
    let mut key = BTreeMap::new();
    let mut statement = conn.prepare("SELECT name, type, pk FROM pragma_table_info($1)")?;
    let mut rows = statement.query([name])?;
    while let Some(row) = rows.next()? {
        let (column, kind, place): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let kind = match &*kind {
            "TEXT" => Kind::Text,
            "BIGINT" | "INTEGER" => Kind::Integer,
            "BLOB" => Kind::Bytes,
            "BOOLEAN" => Kind::Boolean,
            other => return Err(MetaError::other(format!("{name}.{column} is of the unknown kind {other}"))),
        };
        if place > 0 {
            key.insert(place, columns.len());
        }
        columns.push((column, kind));
    }
    if key.is_empty() {
        return Err(MetaError::other(format!("table {name} has no key to copy it by")));
    }
    Ok(Table { name: name.to_owned(), columns, key: key.into_values().collect(), numbered })
}

/// What a destination is, for the deployment `id`.
///
/// # Errors
/// If it cannot be read.
pub async fn destination(to: &Meta, id: &str) -> Result<Destination, MetaError> {
    let (known, used) = to
        .read(|tx| {
            let used = tx.query_opt("SELECT 1 FROM accounts LIMIT 1", &[], |_| Ok(()))?.is_some();
            Ok::<_, MetaError>((accounts::deployment(tx)?, used))
        })
        .await?;
    Ok(match known {
        None if used => Destination::Stranger("without a name".to_owned()),
        None => Destination::Empty,
        Some(known) if known == id => Destination::Done,
        Some(known) if known.strip_prefix(UNFINISHED) == Some(id) => Destination::Begun,
        Some(known) => Destination::Stranger(known),
    })
}

/// Empties a destination, which is [`Destination::Empty`] or [`Destination::Begun`], and marks it as one that is being
/// filled. What the migrations put into it goes too: the source has its own.
///
/// # Errors
/// If it cannot be written.
pub async fn begin(to: &Meta, id: &str) -> Result<(), MetaError> {
    let tables: Arc<[Table]> = tables()?.into();
    let id = format!("{UNFINISHED}{id}");
    to.write(move |tx| {
        for table in tables.iter().rev() {
            tx.execute_dynamic(&format!("DELETE FROM {}", table.name), &[])?;
        }
        tx.execute("DELETE FROM deployment", &[])?;
        let now = tx.now_micros();
        tx.execute("INSERT INTO deployment (id, created_at) VALUES ($1, $2)", &[&id, &now])?;
        Ok(())
    })
    .await
}

/// Copies what is missing of a table; `progress` is told of every batch. Answers how many rows were added.
///
/// # Errors
/// If one of the databases fails.
pub async fn copy(from: &Meta, to: &Meta, table: &Table, progress: impl Fn(u64)) -> Result<u64, MetaError> {
    let table = Arc::new(table.clone());
    let (mut after, mut added) = (None, 0);
    loop {
        let rows = batch(from, &table, after.take()).await?;
        let Some(last) = rows.last() else { break };
        after = Some(table.key_of(last));
        let count = rows.len() as u64;
        let (theirs, rows) = (Arc::clone(&table), Arc::new(rows));
        added += to.write(move |tx| theirs.insert(tx, &rows)).await?;
        progress(count);
    }
    if table.numbered {
        let theirs = Arc::clone(&table);
        if let Some(number) = from.read(move |tx| theirs.number(tx)).await?.filter(|number| *number > 0) {
            to.write(move |tx| table.set_number(tx, number)).await?;
        }
    }
    Ok(added)
}

/// Sums a table up, to compare it with another's.
///
/// # Errors
/// If the database fails.
pub async fn sum(meta: &Meta, table: &Table) -> Result<TableSum, MetaError> {
    let table = Arc::new(table.clone());
    let (mut after, mut sum) = (None, TableSum::default());
    loop {
        let rows = batch(meta, &table, after.take()).await?;
        let Some(last) = rows.last() else { return Ok(sum) };
        after = Some(table.key_of(last));
        rows.iter().for_each(|row| sum.add(row));
    }
}

async fn batch(meta: &Meta, table: &Arc<Table>, after: Option<Cells>) -> Result<Vec<Cells>, MetaError> {
    let table = Arc::clone(table);
    meta.read_background(move |tx| table.rows(tx, after.as_deref())).await
}

/// Calls the destination by its name: it is whole.
///
/// # Errors
/// If one of the databases fails.
pub async fn finish(from: &Meta, to: &Meta, id: &str) -> Result<(), MetaError> {
    let sql = "SELECT created_at FROM deployment";
    let created_at: i64 = from.read(move |tx| tx.query_one(sql, &[], |row| row.get(0))).await?;
    let id = id.to_owned();
    to.write(move |tx| {
        tx.execute("UPDATE deployment SET id = $1, created_at = $2", &[&id, &created_at]).map(drop)
    })
    .await
}

/// How many objects have bytes in the main store, and how many bytes those are.
///
/// # Errors
/// If the database fails.
pub fn stored_total(tx: &mut Tx<'_>) -> Result<(u64, u64), MetaError> {
    let sql = format!(
        "SELECT COUNT(*), CAST(COALESCE(SUM(stored_size), 0) AS BIGINT)
         FROM objects
         WHERE NOT inline AND store = 'main' AND {LASTING}"
    );
    let found = tx.query_opt_dynamic(&sql, &[], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(found.unwrap_or_default())
}

/// Up to a thousand objects after `after` that have bytes in the main store, in the order of their ids.
///
/// # Errors
/// If the database fails.
pub fn stored(tx: &mut Tx<'_>, after: Option<ObjectId>) -> Result<Vec<StoredObject>, MetaError> {
    let after = after.map(|id| id.to_string()).unwrap_or_default();
    let sql = format!(
        "SELECT id, stored_size, state
         FROM objects
         WHERE NOT inline AND store = 'main' AND {LASTING} AND id > $1
         ORDER BY id
         LIMIT 1000"
    );
    tx.query_all_dynamic(&sql, &[&after], |row| {
        let id = row.text(0)?.parse().map_err(|_| MetaError::other("an object has no id"))?;
        Ok(StoredObject { id, stored_size: row.get(1)?, quarantined: row.text(2)? == "quarantined" })
    })
}

#[cfg(test)]
mod tests {
    use super::super::SqliteOptions;
    use super::*;

    #[test]
    fn every_table_is_copied_after_those_it_refers_to() {
        let tables = tables().unwrap();
        let place = |name: &str| tables.iter().position(|table| table.name == name).unwrap();
        assert!(place("accounts") < place("principals") && place("principals") < place("access_keys"));
        assert!(place("objects") < place("blobs") && place("blobs") < place("repository_blobs"));
        assert!(place("manifests") < place("tags"));
        let objects = &tables[place("objects")];
        assert_eq!((objects.key_names(), objects.batch()), ("id".to_owned(), ROWS_WITH_CONTENT));
        assert!(objects.columns.contains(&("inline".to_owned(), Kind::Boolean)));
        assert_eq!(tables[place("manifest_blobs")].key_names(), "repository_id, manifest, blob");
        let numbered: Vec<&str> = tables.iter().filter(|table| table.numbered).map(Table::name).collect();
        assert!(["events", "key_domains", "repositories"].iter().all(|name| numbered.contains(name)));
        assert!(!tables.iter().any(|table| [DEPLOYMENT, "uploads"].contains(&&*table.name)));
    }

    fn open(directory: &tempfile::TempDir, name: &str) -> Meta {
        Meta::open_sqlite(&directory.path().join(name), SqliteOptions::default()).unwrap()
    }

    async fn write(meta: &Meta, sql: &'static str) {
        meta.write(move |tx| tx.execute(sql, &[]).map(drop)).await.unwrap();
    }

    /// Copies everything, and checks that it is there.
    async fn moved(from: &Meta, to: &Meta) {
        begin(to, "d").await.unwrap();
        let tables = tables().unwrap();
        for table in &tables {
            copy(from, to, table, |_| {}).await.unwrap();
        }
        for table in &tables {
            assert_eq!(sum(to, table).await.unwrap(), sum(from, table).await.unwrap(), "{}", table.name);
        }
        finish(from, to, "d").await.unwrap();
        assert_eq!(destination(to, "d").await.unwrap(), Destination::Done);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn metadata_move_to_postgres_and_back() {
        let Some(database) = wharf_testing::postgres::Database::create() else { return };
        let directory = tempfile::tempdir().unwrap();
        let (from, back) = (open(&directory, "from"), open(&directory, "back"));
        write(&from, "INSERT INTO deployment (id, created_at) VALUES ('d', 5)").await;
        write(&from, "INSERT INTO accounts (id, created_at) VALUES ('1', 1), ('2', 2)").await;
        write(
            &from,
            "INSERT INTO key_domains (id, account, region, encryption_type, kms_key)
             VALUES (41, '1', 'r', 'AES256', '')",
        )
        .await;
        // All four kinds of columns, text that languages sort elsewhere, and nothing at all.
        write(
            &from,
            "INSERT INTO objects (id, state, inline, domain_id, digest, size, stored_size, keys, content, created_at)
             VALUES ('a', 'live', TRUE, 41, 'B', 3, 4, x'00ff', x'', 1), ('\u{e4}', 'live', FALSE, 41, NULL, 3, 4, NULL, NULL, 1),
                    ('_', 'trashed', FALSE, 41, 'b', 3, 4, NULL, NULL, 1), ('Z', 'writing', FALSE, 41, 'b', 3, 4, NULL, NULL, 1)",
        )
        .await;
        let url = database.url().parse().unwrap();
        let opening = || Meta::open_postgres(super::super::PostgresOptions::new(url));
        let postgres = tokio::task::spawn_blocking(opening).await.unwrap().unwrap();
        moved(&from, &postgres).await;
        let sql = "INSERT INTO key_domains (account, region, encryption_type, kms_key)
                   VALUES ('2', 'r', 'AES256', '') RETURNING id";
        let next: i64 = postgres.write(move |tx| tx.query_one(sql, &[], |row| row.get(0))).await.unwrap();
        assert_eq!(next, 42, "numbers go on");
        moved(&postgres, &back).await;
        let objects = "SELECT COUNT(*) FROM objects";
        let count: i64 = back.read(move |tx| tx.query_one(objects, &[], |row| row.get(0))).await.unwrap();
        assert_eq!(count, 3, "all but that of an upload");
        for meta in [from, postgres, back] {
            meta.close().await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_copy_holds_the_same_and_numbers_on() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (open(&directory, "from"), open(&directory, "to"));
        write(&from, "INSERT INTO deployment (id, created_at) VALUES ('d', 5)").await;
        write(&from, "INSERT INTO accounts (id, created_at) VALUES ('1', 1), ('2', 2)").await;
        // More than one batch, and a number that was given out and is gone.
        write(
            &from,
            "INSERT INTO events (account, region, detail_type, detail, created_at)
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)
             SELECT 'a', 'r', 't', 'event ' || i, i FROM n",
        )
        .await;
        write(&from, "DELETE FROM events WHERE id = 2500").await;
        write(&from, "UPDATE epochs SET value = 77").await;
        assert_eq!(destination(&to, "d").await.unwrap(), Destination::Empty);
        begin(&to, "d").await.unwrap();
        assert_eq!(destination(&to, "d").await.unwrap(), Destination::Begun);
        assert_eq!(destination(&to, "e").await.unwrap(), Destination::Stranger("migrating:d".to_owned()));
        let tables = tables().unwrap();
        for table in &tables {
            copy(&from, &to, table, |_| {}).await.unwrap();
        }
        let mut rows = 0;
        for table in &tables {
            let here = sum(&to, table).await.unwrap();
            assert_eq!(here, sum(&from, table).await.unwrap(), "{}", table.name);
            rows += here.rows;
        }
        assert_eq!(rows, 2 + 2499 + 2, "accounts, events, epochs");
        finish(&from, &to, "d").await.unwrap();
        assert_eq!(destination(&to, "d").await.unwrap(), Destination::Done);
        let sql = "INSERT INTO events (account, region, detail_type, detail, created_at)
                   VALUES ('a', 'r', 't', 'd', 1) RETURNING id";
        let next: i64 = to.write(move |tx| tx.query_one(sql, &[], |row| row.get(0))).await.unwrap();
        assert_eq!(next, 2501);
        write(&to, "UPDATE events SET detail = 'other' WHERE id = 7").await;
        write(&to, "DELETE FROM events WHERE id = 2501").await;
        let events = tables.iter().find(|table| table.name == "events").unwrap();
        let (theirs, ours) = (sum(&from, events).await.unwrap(), sum(&to, events).await.unwrap());
        assert!(theirs != ours && theirs.rows == ours.rows, "one value more or less is seen");
        from.close().await;
        to.close().await;
    }
}
