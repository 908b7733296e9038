//! `Marker` and `IsTruncated` of IAM's listings.

use crate::{IamError, Page, PageRequest, Registry, RegistryError};

impl Registry {
    /// Opens the marker of a listing into `N` parts; empty ones for the first page.
    ///
    /// # Errors
    /// `ValidationError` when it is not ours or comes from another listing.
    pub(crate) fn open_iam_marker<const N: usize>(
        &self,
        query: &[&str],
        page: &PageRequest,
    ) -> Result<[String; N], RegistryError> {
        self.open_page(query, page.token.as_deref()).map_err(|error| match error {
            RegistryError::InvalidParameter { .. } => IamError::Validation("Invalid Marker.".into()).into(),
            other => other,
        })
    }

    /// Makes a page of up to `limit` entries, of which one more was read to know whether there are more. `place` is
    /// where the page after an entry begins.
    pub(crate) fn cut_iam_page<T>(
        &self,
        query: &[&str],
        mut items: Vec<T>,
        limit: usize,
        place: impl Fn(&T) -> Vec<String>,
    ) -> Result<Page<T>, RegistryError> {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = match items.last() {
            Some(last) if more => Some(self.seal_page(query, place(last))?),
            _ => None,
        };
        Ok(Page { items, next })
    }

    /// A page of a list that a quota keeps short. `key` must be unique; it gives the order.
    pub(crate) fn iam_page_of<T>(
        &self,
        query: &[&str],
        mut items: Vec<T>,
        page: PageRequest,
        key: impl Fn(&T) -> String,
    ) -> Result<Page<T>, RegistryError> {
        let [after] = self.open_iam_marker(query, &page)?;
        items.sort_by_cached_key(&key);
        if page.token.is_some() {
            items.retain(|item| key(item) > after);
        }
        self.cut_iam_page(query, items, page.limit, |item| vec![key(item)])
    }
}

impl<T> Page<T> {
    /// The page with every entry changed.
    pub(crate) fn map<U>(self, change: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(change).collect(), next: self.next }
    }
}
