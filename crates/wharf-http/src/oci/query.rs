//! The query of a request.

use std::borrow::Cow;

use super::error::OciError;

/// A query as it was sent; parameters are decoded when they are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// The query of a request's target.
    pub(crate) fn of(uri: &'a http::Uri) -> Self {
        Self(uri.query().unwrap_or_default())
    }

    /// The first parameter of this name; an empty one counts as given.
    pub(crate) fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        self.all(name).next()
    }

    /// Every parameter of this name, in order.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = Cow<'a, str>> {
        form_urlencoded::parse(self.0.as_bytes())
            .filter_map(move |(key, value)| (key == name).then_some(value))
    }

    /// The parameter parsed, or `None` where it is not given.
    ///
    /// # Errors
    /// Whatever `refuse` makes of the text when it does not parse.
    pub(crate) fn parsed<T: std::str::FromStr>(
        &self,
        name: &str,
        refuse: impl FnOnce(&str) -> OciError,
    ) -> Result<Option<T>, OciError> {
        match self.get(name) {
            Some(text) => text.parse().map(Some).map_err(|_| refuse(&text)),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_may_repeat() {
        let uri: http::Uri = "/v2/a/b?tag=v1&tag=v%2B2&n=&last=a+b&bad=%zz".parse().unwrap();
        let query = Query::of(&uri);
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["v1", "v+2"]);
        assert_eq!(query.get("n").as_deref(), Some(""));
        assert_eq!(query.get("last").as_deref(), Some("a b"));
        assert_eq!(
            query.get("bad").as_deref(),
            Some("%zz"),
            "left as it is, for the parser of the value to refuse"
        );
        assert_eq!(query.get("none"), None);
        assert!(query.parsed::<u32>("n", OciError::invalid_digest).is_err());
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_query_it_is_read(query in "[a-z&=%+0-9A-F/?:@!$'()*,;~._-]{0,60}", name in "[a-z]{0,2}") {
            let uri: http::Uri = format!("/v2/?{query}").parse().unwrap();
            let query = Query::of(&uri);
            proptest::prop_assert_eq!(query.get(&name), query.all(&name).next());
        }

        #[test]
        fn whatever_a_parameter_holds_arrives(value in "\\PC{0,30}") {
            let encoded: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
            let uri: http::Uri = format!("/v2/?last=x&digest={encoded}&digest=y").parse().unwrap();
            let got = Query::of(&uri).get("digest");
            proptest::prop_assert_eq!(got.as_deref(), Some(value.as_str()));
        }
    }
}
