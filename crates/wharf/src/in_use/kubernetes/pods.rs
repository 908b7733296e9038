//! A page of the API's list of pods.

use std::borrow::Cow;

use serde::Deserialize;

/// The path of a page. Pods that have ended need no image any more.
pub fn path(namespace: Option<&str>, limit: u32, token: Option<&str>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &limit.to_string());
    query.append_pair("fieldSelector", "status.phase!=Succeeded,status.phase!=Failed");
    if let Some(token) = token {
        query.append_pair("continue", token);
    }
    let place = namespace.map_or_else(String::new, |namespace| format!("namespaces/{namespace}/"));
    format!("/api/v1/{place}pods?{}", query.finish())
}

/// A page, as far as it is about images.
#[derive(Deserialize)]
pub struct Page<'a> {
    #[serde(borrow, default)]
    metadata: ListMetadata<'a>,
    #[serde(borrow)]
    items: Vec<Pod<'a>>,
}

#[derive(Default, Deserialize)]
struct ListMetadata<'a> {
    #[serde(borrow, rename = "continue")]
    token: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Pod<'a> {
    #[serde(borrow, default)]
    spec: Spec<'a>,
    #[serde(borrow, default)]
    status: Status<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(borrow, default)]
    containers: Vec<Container<'a>>,
    #[serde(borrow, default)]
    init_containers: Vec<Container<'a>>,
    #[serde(borrow, default)]
    ephemeral_containers: Vec<Container<'a>>,
}

#[derive(Deserialize)]
struct Container<'a> {
    #[serde(borrow)]
    image: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    #[serde(borrow)]
    phase: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    container_statuses: Vec<ContainerStatus<'a>>,
    #[serde(borrow, default)]
    init_container_statuses: Vec<ContainerStatus<'a>>,
    #[serde(borrow, default)]
    ephemeral_container_statuses: Vec<ContainerStatus<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerStatus<'a> {
    /// What the runtime resolved the image to; empty until it has been pulled.
    #[serde(borrow, rename = "imageID")]
    image_id: Option<Cow<'a, str>>,
}

impl<'a> Page<'a> {
    /// Reads a page.
    ///
    /// # Errors
    /// If it is no list of pods.
    pub fn parse(body: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }

    /// What asks for the next page.
    pub fn next(&self) -> Option<String> {
        self.metadata.token.as_deref().filter(|token| !token.is_empty()).map(str::to_owned)
    }

    /// The images of the page's pods: what they were resolved to, and those that the pods name by digest, which are needed
    /// before they have been pulled. Init containers run again when a pod is restarted, so theirs count as well.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        let over = |pod: &&Pod<'_>| !matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
        self.items.iter().filter(over).flat_map(|pod| {
            let status = &pod.status;
            let statuses = [
                &status.container_statuses,
                &status.init_container_statuses,
                &status.ephemeral_container_statuses,
            ];
            let resolved = statuses.into_iter().flatten().filter_map(|status| status.image_id.as_deref());
            let spec = &pod.spec;
            let named = [&spec.containers, &spec.init_containers, &spec.ephemeral_containers];
            let named = named.into_iter().flatten().filter_map(|container| container.image.as_deref());
            resolved.chain(named.filter(|image| image.contains('@')))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_container_counts_unless_its_pod_has_ended() {
        let body = json!({
            "kind": "PodList", "metadata": {"resourceVersion": "7", "continue": "next \"page\""},
            "items": [
                {"metadata": {"name": "a"}, "spec": {"containers": [{"image": "r/a:v1"}, {"image": "r/b@sha256:9"}]},
                 "status": {
                    "phase": "Running",
                    "containerStatuses": [{"imageID": "r/a@sha256:1", "state": {"running": {}}}, {"imageID": ""}],
                    "initContainerStatuses": [{"imageID": "r/i@sha256:2"}],
                    "ephemeralContainerStatuses": [{"imageID": "r/e@sha256:3"}],
                 }},
                {"spec": {"containers": [{"image": "r/over@sha256:4"}]},
                 "status": {"phase": "Succeeded", "containerStatuses": [{"imageID": "r/over@sha256:4"}]}},
                {"spec": {"initContainers": [{"image": "r/p@sha256:5"}], "ephemeralContainers": [{"name": "x"}]},
                 "status": {"phase": "Pending"}},
                {},
            ]
        })
        .to_string();
        let page = Page::parse(body.as_bytes()).unwrap();
        let images: Vec<&str> = page.images().filter(|image| !image.is_empty()).collect();
        assert_eq!(images, ["r/a@sha256:1", "r/i@sha256:2", "r/e@sha256:3", "r/b@sha256:9", "r/p@sha256:5"]);
        assert_eq!(page.next().as_deref(), Some("next \"page\""));
        let last = br#"{"metadata":{"continue":""},"items":[]}"#;
        assert_eq!(Page::parse(last).unwrap().next(), None);
        for wrong in ["", "[]", "{}", r#"{"items":7}"#, r#"{"items":[{"status":{"containerStatuses":{}}}]}"#]
        {
            assert!(Page::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pages_are_asked_for_by_what_the_last_one_said() {
        let selected = "fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed";
        assert_eq!(path(None, 250, None), format!("/api/v1/pods?limit=250&{selected}"));
        assert_eq!(
            path(Some("prod"), 1, Some("a b=")),
            format!("/api/v1/namespaces/prod/pods?limit=1&{selected}&continue=a+b%3D")
        );
    }
}
