//! Image tags.

use super::dialect::placeholders;
use super::{MetaError, Param, Tx};

/// At most this many placeholders for one list; longer lists go in several statements.
const LIST: usize = 500;

/// The digest a tag points at.
pub fn find(tx: &mut Tx<'_>, repository_id: i64, name: &str) -> Result<Option<String>, MetaError> {
    tx.query_opt(
        "SELECT digest FROM tags WHERE repository_id = $1 AND name = $2",
        &[&repository_id, &name],
        |row| row.get(0),
    )
}

/// Points a tag at a manifest, new or moved, whatever it points at.
pub fn put(tx: &mut Tx<'_>, repository_id: i64, name: &str, digest: &str) -> Result<(), MetaError> {
    let now = tx.now_micros();
    tx.execute_later(
        "INSERT INTO tags (repository_id, name, digest, updated_at)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (repository_id, name) DO UPDATE SET digest = excluded.digest, updated_at = excluded.updated_at",
        &[&repository_id, &name, &digest, &now],
    )?;
    Ok(())
}

/// Points a tag at a manifest if it still points at `from` (`None`: if there is still no such tag). Answers whether it
/// did: on PostgreSQL another transaction may have been faster, and is committed then.
pub fn point(
    tx: &mut Tx<'_>,
    repository_id: i64,
    name: &str,
    from: Option<&str>,
    digest: &str,
) -> Result<bool, MetaError> {
    let now = tx.now_micros();
    let changed = match from {
        None => tx.execute(
            "INSERT INTO tags (repository_id, name, digest, updated_at)
             VALUES ($1, $2, $3, $4)
             ON CONFLICT (repository_id, name) DO NOTHING",
            &[&repository_id, &name, &digest, &now],
        )?,
        Some(from) => tx.execute(
            "UPDATE tags SET digest = $3, updated_at = $4 WHERE repository_id = $1 AND name = $2 AND digest = $5",
            &[&repository_id, &name, &digest, &now, &from],
        )?,
    };
    Ok(changed == 1)
}

/// Removes one tag.
pub fn remove(tx: &mut Tx<'_>, repository_id: i64, name: &str) -> Result<(), MetaError> {
    tx.execute_later("DELETE FROM tags WHERE repository_id = $1 AND name = $2", &[&repository_id, &name])?;
    Ok(())
}

/// Removes every tag of an image and answers which they were, in order.
pub fn remove_of(tx: &mut Tx<'_>, repository_id: i64, digest: &str) -> Result<Vec<String>, MetaError> {
    let names = of(tx, repository_id, digest)?;
    tx.execute_later(
        "DELETE FROM tags WHERE repository_id = $1 AND digest = $2",
        &[&repository_id, &digest],
    )?;
    Ok(names)
}

/// The tags of an image in order of name.
pub fn of(tx: &mut Tx<'_>, repository_id: i64, digest: &str) -> Result<Vec<String>, MetaError> {
    tx.query_all(
        "SELECT name FROM tags WHERE repository_id = $1 AND digest = $2 ORDER BY name",
        &[&repository_id, &digest],
        |row| row.get(0),
    )
}

/// How many tags an image has, for the quota.
pub fn count_of(tx: &mut Tx<'_>, repository_id: i64, digest: &str) -> Result<u64, MetaError> {
    tx.query_one(
        "SELECT COUNT(*) FROM tags WHERE repository_id = $1 AND digest = $2",
        &[&repository_id, &digest],
        |row| row.get(0),
    )
}

/// The tags of these images: (digest, name) in that order.
pub fn of_all(
    tx: &mut Tx<'_>,
    repository_id: i64,
    digests: &[&str],
) -> Result<Vec<(String, String)>, MetaError> {
    let mut found = Vec::new();
    for part in digests.chunks(LIST) {
        let sql = format!(
            "SELECT digest, name
             FROM tags
             WHERE repository_id = $1 AND digest IN ({})
             ORDER BY digest, name",
            placeholders(2, part.len()),
        );
        let mut params: Vec<&dyn Param> = vec![&repository_id];
        params.extend(part.iter().map(|digest| digest as &dyn Param));
        found.extend(tx.query_all_dynamic(&sql, &params, |row| Ok((row.get(0)?, row.get(1)?)))?);
    }
    Ok(found)
}

/// Shows `visit` a page of the tags of active images, in order of name, after `after` (exclusive).
pub fn page(
    tx: &mut Tx<'_>,
    repository_id: i64,
    after: &str,
    limit: usize,
    visit: &mut dyn FnMut(&str),
) -> Result<(), MetaError> {
    // Hardly any repository has inactive images. Without any, a page is a run of the index by name alone.
    let of_inactive = tx.dialect().indexed_by_manifests_inactive();
    let sql = format!(
        "SELECT 1 FROM manifests m{of_inactive} WHERE m.repository_id = $1 AND m.status <> 'ACTIVE' LIMIT 1"
    );
    let filter = match tx.query_opt_dynamic(&sql, &[&repository_id], |row| row.get::<i64>(0))? {
        None => String::new(),
        Some(_) => format!(
            "AND NOT EXISTS (SELECT 1
                             FROM manifests m{of_inactive}
                             WHERE m.repository_id = $1 AND m.digest = t.digest AND m.status <> 'ACTIVE')"
        ),
    };
    let sql = format!(
        "SELECT t.name
         FROM tags t
         WHERE t.repository_id = $1 AND t.name > $2 {filter}
         ORDER BY t.name
         LIMIT $3"
    );
    tx.query_all_dynamic(&sql, &[&repository_id, &after, &limit], |row| {
        visit(row.text(0)?);
        Ok(())
    })?;
    Ok(())
}

/// A page of (digest, tag) pairs, and of digests without a tag as (digest, ''), in that order, after the given pair.
pub fn page_images(
    tx: &mut Tx<'_>,
    repository_id: i64,
    after: (&str, &str),
    tagged: Option<bool>,
    status: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, String)>, MetaError> {
    let sql = match tagged {
        // Driven from the tags, so that a repository of mostly untagged images is not read for a page.
        Some(true) => {
            "SELECT t.digest, t.name
             FROM tags t
             JOIN manifests m ON m.repository_id = t.repository_id AND m.digest = t.digest
             WHERE t.repository_id = $1 AND t.digest >= $2 AND (t.digest > $2 OR t.name > $3)
               AND (CAST($4 AS TEXT) IS NULL OR m.status = $4)
             ORDER BY t.digest, t.name
             LIMIT $5"
        }
        Some(false) => {
            "SELECT m.digest, ''
             FROM manifests m
             WHERE m.repository_id = $1 AND m.digest >= $2 AND (m.digest > $2 OR '' > $3)
               AND (CAST($4 AS TEXT) IS NULL OR m.status = $4)
               AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.repository_id = $1 AND t.digest = m.digest)
             ORDER BY m.digest
             LIMIT $5"
        }
        None => {
            "SELECT m.digest, COALESCE(t.name, '')
             FROM manifests m
             LEFT JOIN tags t ON t.repository_id = m.repository_id AND t.digest = m.digest
             WHERE m.repository_id = $1 AND m.digest >= $2 AND (m.digest > $2 OR COALESCE(t.name, '') > $3)
               AND (CAST($4 AS TEXT) IS NULL OR m.status = $4)
             ORDER BY m.digest, t.name
             LIMIT $5"
        }
    };
    tx.query_all(sql, &[&repository_id, &after.0, &after.1, &status, &limit], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}
