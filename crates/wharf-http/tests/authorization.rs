//! Who may do what, on both faces: users, boundaries, repository policies across accounts, revocation, nobody.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod aws_harness;

use aws_harness::{ACCOUNT, Client, OTHER_ACCOUNT, REGION, Reply, Wharf};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wharf_types::Digest;

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const REPOSITORY: &str = "arn:aws:ecr:us-east-1:123456789012:repository/team/api";

/// A server whose own account has `team/api` with one image, `v1`, of the layer `layer`.
async fn house(configure: impl FnOnce(&mut wharf_http::HttpConfig)) -> Wharf {
    let wharf = Wharf::start_with(configure).await;
    wharf.root.ecr("CreateRepository", json!({"repositoryName": "team/api"})).await.ok();
    let docker = Docker::login(&wharf.root).await;
    let mut described = Vec::new();
    for (content, kind) in [("{}", "config.v1+json"), ("layer", "layer.v1.tar")] {
        let digest = Digest::sha256(content.as_bytes()).to_string();
        let target = format!("/v2/team/api/blobs/uploads/?digest={digest}");
        let put = docker.send("POST", &target, &[], content).await;
        assert_eq!(put.status, 201, "{}", put.text());
        described.push(json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": content.len()}));
    }
    let manifest =
        json!({"schemaVersion": 2, "mediaType": IMAGE, "config": described[0], "layers": [described[1]]});
    let put = docker
        .send("PUT", "/v2/team/api/manifests/v1", &[("content-type", IMAGE)], &manifest.to_string())
        .await;
    assert_eq!(put.status, 201, "{}", put.text());
    wharf
}

/// A container client with a password.
struct Docker {
    client: Client,
    host: String,
    credential: Option<String>,
}

impl Docker {
    /// `aws ecr get-login-password | docker login`, to the own account's registry.
    async fn login(client: &Client) -> Self {
        let answer = client.ecr("GetAuthorizationToken", json!({})).await.ok();
        let token = answer["authorizationData"][0]["authorizationToken"].as_str().unwrap();
        Self::nobody(client, Some(format!("Basic {token}")))
    }

    fn nobody(client: &Client, credential: Option<String>) -> Self {
        let host = format!("{ACCOUNT}.dkr.ecr.{REGION}.localhost:{}", client.address.port());
        Self { client: client.clone(), host, credential }
    }

    async fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut all = vec![("host", self.host.as_str())];
        all.extend(self.credential.iter().map(|text| ("authorization", text.as_str())));
        all.extend_from_slice(headers);
        self.client.send(method, target, &all, body.as_bytes()).await
    }

    async fn get(&self, target: &str) -> Reply {
        self.send("GET", target, &[], "").await
    }

    async fn pull(&self) -> Reply {
        self.get("/v2/team/api/manifests/v1").await
    }

    async fn start_push(&self) -> Reply {
        self.send("POST", "/v2/team/api/blobs/uploads/", &[], "").await
    }
}

/// Status, code and text of a refusal on the OCI face.
#[track_caller]
fn denied(reply: &Reply) -> String {
    assert_eq!(reply.status, 403, "{}", reply.text());
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(body["errors"][0]["code"], "DENIED");
    body["errors"][0]["message"].as_str().unwrap().to_owned()
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Calls an IAM operation that must succeed.
async fn iam(client: &Client, operation: &str, parameters: &[(&str, &str)]) -> String {
    let mut form = format!("Action={operation}&Version=2010-05-08");
    for (name, value) in parameters {
        form.push_str(&format!("&{name}={}", encoded(value)));
    }
    let reply = client.in_region("us-east-1").form("iam", &form).await;
    assert_eq!(reply.status, 200, "{operation}: {}", reply.text());
    reply.text()
}

fn element(xml: &str, name: &str) -> String {
    let (_, rest) = xml.split_once(&format!("<{name}>")).unwrap();
    rest.split_once('<').unwrap().0.to_owned()
}

/// A new user with one inline policy.
async fn user(account: &Client, name: &str, policy: &Value) -> Client {
    iam(account, "CreateUser", &[("UserName", name)]).await;
    put_policy(account, name, policy).await;
    let key = iam(account, "CreateAccessKey", &[("UserName", name)]).await;
    Client {
        access_key_id: element(&key, "AccessKeyId"),
        secret: element(&key, "SecretAccessKey"),
        ..account.clone()
    }
}

async fn put_policy(account: &Client, user: &str, policy: &Value) {
    let text = policy.to_string();
    iam(account, "PutUserPolicy", &[("UserName", user), ("PolicyName", "own"), ("PolicyDocument", &text)])
        .await;
}

fn allow(actions: &[&str]) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]})
}

/// A repository policy that allows actions to a principal.
fn grant(principal: &Value, actions: &[&str]) -> String {
    json!({"Version": "2012-10-17", "Statement": [{"Sid": "open it", "Effect": "Allow", "Principal": principal, "Action": actions}]})
        .to_string()
}

async fn set_policy(client: &Client, text: &str) -> Reply {
    client.ecr("SetRepositoryPolicy", json!({"repositoryName": "team/api", "policyText": text})).await
}

const PULL: &[&str] = &["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];

#[tokio::test]
async fn another_account_pulls_by_repository_policy_and_cannot_push() {
    let wharf = house(|_| {}).await;
    let guest = Docker::login(&wharf.other).await;
    let before = denied(&guest.pull().await);
    assert_eq!(
        before,
        format!(
            "User: arn:aws:iam::{OTHER_ACCOUNT}:root is not authorized to perform: ecr:BatchGetImage on resource: \
             {REPOSITORY} because no resource-based policy allows the ecr:BatchGetImage action"
        )
    );
    let absent = denied(&guest.get("/v2/team/none/manifests/v1").await);
    assert_eq!(absent, before.replace("team/api", "team/none"), "what is not there looks the same");

    set_policy(&wharf.root, &grant(&json!({"AWS": OTHER_ACCOUNT}), PULL)).await.ok();
    assert_eq!(guest.pull().await.status, 200);
    let layer = format!("/v2/team/api/blobs/{}", Digest::sha256(b"layer"));
    assert_eq!(guest.get(&layer).await.text(), "layer");
    assert!(denied(&guest.start_push().await).ends_with("allows the ecr:InitiateLayerUpload action"));
    assert!(denied(&guest.get("/v2/_catalog").await).contains("repository/* because no resource-based"));

    let there = |name: &str| json!({"registryId": ACCOUNT, "repositoryName": "team/api", "imageIds": [{"imageTag": name}]});
    let got = wharf.other.ecr("BatchGetImage", there("v1")).await.ok();
    assert_eq!(got["images"].as_array().unwrap().len(), 1);
    let (code, text) = wharf.other.ecr("BatchDeleteImage", there("v1")).await.error();
    assert_eq!(code, "AccessDeniedException");
    assert!(
        text.ends_with("because no resource-based policy allows the ecr:BatchDeleteImage action"),
        "{text}"
    );

    // A user of that account needs its own account's consent as well.
    let quiet = user(&wharf.other, "quiet", &allow(&["ecr:GetAuthorizationToken"])).await;
    let quiet_docker = Docker::login(&quiet).await;
    assert!(denied(&quiet_docker.pull().await).contains("because no identity-based policy allows"));
    put_policy(&wharf.other, "quiet", &allow(&["ecr:*"])).await;
    assert_eq!(quiet_docker.pull().await.status, 200);
    wharf.root.ecr("DeleteRepositoryPolicy", json!({"repositoryName": "team/api"})).await.ok();
    assert!(denied(&quiet_docker.pull().await).contains("because no resource-based policy allows"));
}

#[tokio::test]
async fn what_is_revoked_stops_passwords_already_issued() {
    let wharf = house(|_| {}).await;
    let policy = allow(&["ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:DescribeImages"]);
    let ann = user(&wharf.root, "ann", &policy).await;
    let docker = Docker::login(&ann).await;
    let describe = || ann.ecr("DescribeImages", json!({"repositoryName": "team/api"}));
    assert_eq!(docker.pull().await.status, 200);
    describe().await.ok();
    assert!(denied(&docker.start_push().await).starts_with(&format!(
        "User: arn:aws:iam::{ACCOUNT}:user/ann is not authorized to perform: ecr:InitiateLayerUpload"
    )));

    let deny = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "ecr:*", "Resource": "*"},
        {"Effect": "Deny", "Action": ["ecr:BatchGetImage", "ecr:DescribeImages"], "Resource": REPOSITORY}]});
    put_policy(&wharf.root, "ann", &deny).await;
    assert!(denied(&docker.pull().await).ends_with("with an explicit deny in an identity-based policy"));
    assert!(describe().await.error().1.ends_with("with an explicit deny in an identity-based policy"));
    assert_eq!(docker.start_push().await.status, 202);

    iam(&wharf.root, "DeleteUserPolicy", &[("UserName", "ann"), ("PolicyName", "own")]).await;
    assert!(denied(&docker.start_push().await).contains("because no identity-based policy allows"));
    assert_eq!(docker.get("/v2/").await.status, 200, "who it is has not changed");

    put_policy(&wharf.root, "ann", &policy).await;
    let key = [("UserName", "ann"), ("AccessKeyId", ann.access_key_id.as_str())];
    let status = |status| [key[0], key[1], ("Status", status)];
    iam(&wharf.root, "UpdateAccessKey", &status("Inactive")).await;
    assert_eq!(docker.pull().await.status, 401);
    assert_eq!(describe().await.code(), "UnrecognizedClientException");
    iam(&wharf.root, "UpdateAccessKey", &status("Active")).await;
    assert_eq!(docker.pull().await.status, 200);

    iam(&wharf.root, "DeleteUserPolicy", &[("UserName", "ann"), ("PolicyName", "own")]).await;
    iam(&wharf.root, "DeleteAccessKey", &key).await;
    iam(&wharf.root, "DeleteUser", &[("UserName", "ann")]).await;
    assert_eq!(docker.pull().await.status, 401);
    // Another one of the same name is another one.
    let again = user(&wharf.root, "ann", &policy).await;
    assert_eq!(docker.pull().await.status, 401);
    assert_eq!(Docker::login(&again).await.pull().await.status, 200);
}

#[tokio::test]
async fn a_boundary_cuts_and_tags_and_addresses_decide() {
    let wharf = house(|_| {}).await;
    let bea = user(&wharf.root, "bea", &allow(&["ecr:*"])).await;
    let docker = Docker::login(&bea).await;
    assert_eq!(docker.start_push().await.status, 202);
    let boundary = allow(&["ecr:GetAuthorizationToken", "ecr:BatchGetImage"]).to_string();
    let made =
        iam(&wharf.root, "CreatePolicy", &[("PolicyName", "pull"), ("PolicyDocument", &boundary)]).await;
    let arn = element(&made, "Arn");
    iam(&wharf.root, "PutUserPermissionsBoundary", &[("UserName", "bea"), ("PermissionsBoundary", &arn)])
        .await;
    assert!(denied(&docker.start_push().await).contains("because no permissions boundary allows the"));
    assert_eq!(docker.pull().await.status, 200);
    iam(&wharf.root, "DeleteUserPermissionsBoundary", &[("UserName", "bea")]).await;

    let tagged = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ecr:*", "Resource": "*",
        "Condition": {"StringEquals": {"ecr:ResourceTag/Team": "${aws:PrincipalTag/team}"},
                      "IpAddress": {"aws:SourceIp": "127.0.0.0/8"}, "Bool": {"aws:SecureTransport": "false"}}}]});
    put_policy(&wharf.root, "bea", &tagged).await;
    assert!(denied(&docker.pull().await).contains("because no identity-based policy allows"));
    let tag = json!({"resourceArn": REPOSITORY, "tags": [{"Key": "team", "Value": "red"}]});
    wharf.root.ecr("TagResource", tag).await.ok();
    iam(
        &wharf.root,
        "TagUser",
        &[("UserName", "bea"), ("Tags.member.1.Key", "Team"), ("Tags.member.1.Value", "red")],
    )
    .await;
    assert_eq!(docker.pull().await.status, 200);
    wharf.root.ecr("UntagResource", json!({"resourceArn": REPOSITORY, "tagKeys": ["team"]})).await.ok();
    assert_eq!(docker.pull().await.status, 403);
}

#[tokio::test]
async fn repository_policies_are_checked_bound_and_printed() {
    let wharf = house(|_| {}).await;
    let root = &wharf.root;
    let name = json!({"repositoryName": "team/api"});
    assert_eq!(
        root.ecr("GetRepositoryPolicy", name.clone()).await.code(),
        "RepositoryPolicyNotFoundException"
    );
    let refused =
        |text: &str| format!("Invalid parameter at 'PolicyText' failed to satisfy constraint: '{text}'");
    let long = " ".repeat(10_241);
    for (text, constraint) in [
        ("{}", "Invalid repository policy provided"),
        ("[", "Invalid repository policy provided"),
        (
            &grant(&json!({"AWS": format!("arn:aws:iam::{ACCOUNT}:user/*")}), PULL),
            "Invalid repository policy provided",
        ),
        (&grant(&json!({"AWS": format!("arn:aws:iam::{ACCOUNT}:user/nobody")}), PULL), "Principal not found"),
        (&grant(&json!("*"), &["s3:GetObject"]), "Invalid repository policy provided"),
        (&long, "Member must have length less than or equal to 10240"),
    ] {
        let (code, message) = set_policy(root, text).await.error();
        assert_eq!((code.as_str(), message), ("InvalidParameterException", refused(constraint)));
    }

    let cid = user(root, "cid", &allow(&["ecr:GetAuthorizationToken"])).await;
    let docker = Docker::login(&cid).await;
    let arn = format!("arn:aws:iam::{ACCOUNT}:user/cid");
    let text = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"open it","Effect":"Allow","Principal":{{"AWS":"{arn}"}},
            "Action":["ecr:BatchGetImage","ecr:GetDownloadUrlForLayer"]}}]}}"#
    );
    let set = set_policy(root, &text).await.ok();
    let printed = format!(
        "{{\n  \"Version\" : \"2012-10-17\",\n  \"Statement\" : [ {{\n    \"Sid\" : \"open it\",\n    \"Effect\" : \"Allow\",\n    \
         \"Principal\" : {{\n      \"AWS\" : \"{arn}\"\n    }},\n    \"Action\" : [ \"ecr:BatchGetImage\", \
         \"ecr:GetDownloadUrlForLayer\" ]\n  }} ]\n}}"
    );
    assert_eq!(set["policyText"], printed);
    assert_eq!(docker.pull().await.status, 200, "a user that is named needs no policy of its own");

    // The user goes; one of the same name is not meant.
    iam(root, "DeleteUserPolicy", &[("UserName", "cid"), ("PolicyName", "own")]).await;
    iam(root, "DeleteAccessKey", &[("UserName", "cid"), ("AccessKeyId", &cid.access_key_id)]).await;
    iam(root, "DeleteUser", &[("UserName", "cid")]).await;
    let again = user(root, "cid", &allow(&["ecr:GetAuthorizationToken"])).await;
    assert_eq!(Docker::login(&again).await.pull().await.status, 403);
    let got = root.ecr("GetRepositoryPolicy", name.clone()).await.ok();
    assert!(got["policyText"].as_str().unwrap().contains("\"AWS\" : \"AIDA"), "{got}");

    // Locking oneself out needs force; and then root too is locked out, but for the deletion of the policy.
    let lock = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Deny", "Principal": "*", "Action": ["ecr:SetRepositoryPolicy", "ecr:BatchGetImage"]}]})
    .to_string();
    assert!(set_policy(root, &lock).await.error().1.contains("would prevent the caller"));
    let forced = json!({"repositoryName": "team/api", "policyText": lock, "force": true});
    root.ecr("SetRepositoryPolicy", forced).await.ok();
    let (code, message) = set_policy(root, &grant(&json!("*"), PULL)).await.error();
    assert_eq!(code, "AccessDeniedException");
    assert!(message.ends_with("with an explicit deny in a resource-based policy"), "{message}");
    root.ecr("DeleteRepositoryPolicy", name.clone()).await.ok();

    set_policy(root, &grant(&json!("*"), PULL)).await.ok();
    root.ecr("DeleteRepository", json!({"repositoryName": "team/api", "force": true})).await.ok();
    root.ecr("CreateRepository", name.clone()).await.ok();
    assert_eq!(root.ecr("GetRepositoryPolicy", name).await.code(), "RepositoryPolicyNotFoundException");
}

#[tokio::test]
async fn registry_policies_count_for_every_repository_within_their_scope() {
    let wharf = house(|_| {}).await;
    let (root, guest) = (&wharf.root, Docker::login(&wharf.other).await);
    let text = |actions: &[&str]| {
        json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": OTHER_ACCOUNT},
            "Action": actions, "Resource": format!("arn:aws:ecr:{REGION}:{ACCOUNT}:repository/team/*")}]})
        .to_string()
    };
    let put = |text: String| root.ecr("PutRegistryPolicy", json!({"policyText": text}));
    let refused =
        "Invalid parameter at 'PolicyText' failed to satisfy constraint: 'Invalid registry policy provided'";
    assert_eq!(put(grant(&json!("*"), PULL)).await.error().1, refused, "it wants a resource");
    assert_eq!(put(text(PULL)).await.ok()["registryId"], ACCOUNT);
    assert_eq!(guest.pull().await.status, 200);
    let scope =
        |value| root.ecr("PutAccountSetting", json!({"name": "REGISTRY_POLICY_SCOPE", "value": value}));
    scope("V1").await.ok();
    assert_eq!(guest.pull().await.status, 403);
    assert_eq!(put(text(PULL)).await.error().1, refused);
    put(text(&["ecr:CreateRepository"])).await.ok();
    let create = |name| json!({"registryId": ACCOUNT, "repositoryName": name});
    wharf.other.ecr("CreateRepository", create("team/new")).await.ok();
    assert_eq!(
        wharf.other.ecr("CreateRepository", create("other/new")).await.code(),
        "AccessDeniedException"
    );
    scope("V2").await.ok();
    assert!(root.ecr("DeleteRegistryPolicy", json!({})).await.ok()["policyText"].is_string());
    assert_eq!(root.ecr("GetRegistryPolicy", json!({})).await.code(), "RegistryPolicyNotFoundException");
    assert_eq!(
        wharf.other.ecr("CreateRepository", create("team/newer")).await.code(),
        "AccessDeniedException"
    );
}

#[tokio::test]
async fn nobody_pulls_where_host_and_policy_let_them() {
    let own = format!("{ACCOUNT}.dkr.ecr.{REGION}.localhost");
    let wharf = house(|config| config.hosts.anonymous = vec![own]).await;
    let nobody = Docker::nobody(&wharf.root, None);
    let challenge = |reply: &Reply| {
        assert_eq!(reply.status, 401, "{}", reply.text());
        let offered = reply.headers.get_all("www-authenticate").iter();
        offered.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let offered = challenge(&nobody.pull().await);
    assert!(
        offered[0].starts_with("Bearer realm=\"http://") && offered[0].contains("/token\""),
        "{offered:?}"
    );
    assert_eq!(
        offered.len(),
        1,
        "dockerd without credentials fails where Basic is offered as well: {offered:?}"
    );

    set_policy(&wharf.root, &grant(&json!("*"), PULL)).await.ok();
    assert_eq!(nobody.pull().await.status, 200);
    assert_eq!(nobody.get(&format!("/v2/team/api/blobs/{}", Digest::sha256(b"layer"))).await.text(), "layer");
    challenge(&nobody.get("/v2/").await);
    challenge(&nobody.start_push().await);

    let token = nobody.get("/token?service=ecr.amazonaws.com&scope=repository:team/api:pull").await.ok();
    let bearer = |token: &Value| {
        Docker::nobody(&wharf.root, Some(format!("Bearer {}", token["token"].as_str().unwrap())))
    };
    let guest = bearer(&token);
    assert_eq!(guest.get("/v2/").await.status, 200);
    assert_eq!(guest.pull().await.status, 200);
    assert_eq!(
        denied(&guest.get("/v2/team/api/tags/list").await),
        format!(
            "User: anonymous is not authorized to perform: ecr:ListImages on resource: {REPOSITORY} because no \
             resource-based policy allows the ecr:ListImages action"
        )
    );
    assert!(denied(&guest.start_push().await).starts_with("User: anonymous is not authorized"));

    // With a password, the token is its holder's.
    let known = Docker::login(&wharf.root).await;
    let mine = bearer(&known.get("/token").await.ok());
    assert_eq!(mine.start_push().await.status, 202);
    let password =
        String::from_utf8(STANDARD.decode(&known.credential.clone().unwrap()[6..]).unwrap()).unwrap();
    let form = format!("grant_type=password&username=AWS&password={}", encoded(&password[4..]));
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let posted = bearer(&nobody.send("POST", "/token", &kind, &form).await.ok());
    assert_eq!(posted.start_push().await.status, 202);

    let conditional = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": PULL,
        "Condition": {"NotIpAddress": {"aws:SourceIp": "127.0.0.1"}}}]});
    set_policy(&wharf.root, &conditional.to_string()).await.ok();
    challenge(&nobody.pull().await);
    assert_eq!(guest.pull().await.status, 403);

    // Other hosts hear nobody, whatever the policy says, and have no tokens.
    set_policy(&wharf.root, &grant(&json!("*"), PULL)).await.ok();
    for credential in [None, guest.credential.clone(), mine.credential.clone()] {
        let elsewhere = Docker { host: wharf.address.to_string(), ..Docker::nobody(&wharf.root, credential) };
        assert!(challenge(&elsewhere.pull().await)[0].starts_with("Basic realm="));
        assert_eq!(elsewhere.get("/token").await.status, 404);
    }
}

#[tokio::test]
async fn too_many_failures_are_told_to_wait_and_good_credentials_still_pass() {
    let wharf = house(|config| config.failed_authentications = 5).await;
    let good = Docker::login(&wharf.root).await;
    let bad = Docker::nobody(&wharf.root, Some(format!("Basic {}", STANDARD.encode("AWS:guess"))));
    for _ in 0..5 {
        assert_eq!(bad.pull().await.status, 401);
    }
    let limited = bad.pull().await;
    assert_eq!(limited.status, 429, "{}", limited.text());
    assert!(limited.text().contains("TOOMANYREQUESTS") && limited.headers.contains_key("retry-after"));
    let forger = Client { secret: "x".repeat(40), ..wharf.root.clone() };
    assert_eq!(forger.ecr("DescribeRepositories", json!({})).await.code(), "ThrottlingException");
    assert_eq!(good.pull().await.status, 200);
    wharf.root.ecr("DescribeRepositories", json!({})).await.ok();
}

#[tokio::test]
async fn bad_identity_tokens_are_failures_too() {
    let wharf = Wharf::start_with(|config| config.failed_authentications = 3).await;
    let ask = |role: &str| {
        format!(
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=ci&WebIdentityToken=e30.e30.e30&\
             RoleArn=arn:aws:iam::{ACCOUNT}:role/{role}"
        )
    };
    let send = async |form: String| {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        wharf.root.send("POST", "/", &headers, form.as_bytes()).await
    };
    // What is no request at all shows no credential.
    for _ in 0..5 {
        let unspoken = send(ask("ci").replace("WebIdentityToken", "Token")).await;
        assert!(unspoken.text().contains("<Code>ValidationError</Code>"), "{}", unspoken.text());
    }
    for role in ["ci", "other", "ci"] {
        let wrong = send(ask(role)).await;
        assert!(wrong.text().contains("<Code>InvalidIdentityToken</Code>"), "{}", wrong.text());
    }
    let limited = send(ask("ci")).await;
    assert!(limited.text().contains("<Code>Throttling</Code>"), "{}", limited.text());
    assert!(limited.headers.contains_key("retry-after"));
    let guess = Docker::nobody(&wharf.root, Some(format!("Basic {}", STANDARD.encode("AWS:guess"))));
    assert_eq!(guess.pull().await.status, 429, "one limit for every kind of credential");
    wharf.root.ecr("DescribeRepositories", json!({})).await.ok();
}

#[tokio::test]
async fn a_trusted_proxy_says_who_and_how() {
    let wharf = house(|config| config.trusted_proxies = vec!["127.0.0.1".parse().unwrap()]).await;
    let text = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "ecr:BatchGetImage",
        "Condition": {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}}]});
    set_policy(&wharf.root, &text.to_string()).await.ok();
    let docker = Docker::login(&wharf.root).await;
    let pull = async |from: &'static str| {
        docker.send("GET", "/v2/team/api/manifests/v1", &[("x-forwarded-for", from)], "").await.status
    };
    assert_eq!(pull("203.0.113.7").await, 403);
    assert_eq!(pull("203.0.113.7, 198.51.100.1").await, 200, "only what the proxy itself says");
    let target = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
    let headers = [
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", target),
        ("x-forwarded-proto", "https"),
    ];
    let answer = wharf.root.signed("ecr", "POST", "/", &headers, b"{}").await.ok();
    let endpoint = answer["authorizationData"][0]["proxyEndpoint"].as_str().unwrap();
    assert!(endpoint.starts_with("https://"), "{endpoint}");
}
