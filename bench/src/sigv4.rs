//! Just enough of AWS Signature Version 4 to create repositories: one POST to `/`, headers only. Written apart from
//! wharf's own, so that the benchmark depends on nothing it measures.

use sha2::{Digest as _, Sha256};

/// An access key.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct AccessKey {
    /// Account it belongs to.
    pub account_id: String,
    /// Its public part.
    pub access_key_id: String,
    /// Its secret part.
    pub secret_access_key: String,
}

/// The head of a signed call of ECR's JSON API.
pub fn ecr_call(key: &AccessKey, host: &str, operation: &str, body: &[u8]) -> String {
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    signed(key, host, &now, operation, body)
}

fn signed(key: &AccessKey, host: &str, now: &str, operation: &str, body: &[u8]) -> String {
    let kind = "application/x-amz-json-1.1";
    let target = format!("AmazonEC2ContainerRegistry_V20150921.{operation}");
    let names = "content-type;host;x-amz-date;x-amz-target";
    let request = format!(
        "POST\n/\n\ncontent-type:{kind}\nhost:{host}\nx-amz-date:{now}\nx-amz-target:{target}\n\n{names}\n{}",
        hex(&Sha256::digest(body))
    );
    let (day, region) = (&now[..8], "us-east-1");
    let scope = format!("{day}/{region}/ecr/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{now}\n{scope}\n{}", hex(&Sha256::digest(request)));
    let secret = format!("AWS4{}", key.secret_access_key);
    let signing = [day, region, "ecr", "aws4_request"]
        .iter()
        .fold(secret.into_bytes(), |key, part| hmac(&key, part.as_bytes()).to_vec());
    let signature = hex(&hmac(&signing, text.as_bytes()));
    let id = &key.access_key_id;
    format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nX-Amz-Date: {now}\r\nX-Amz-Target: {target}\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    )
}

/// HMAC-SHA-256 (RFC 2104); keys here are shorter than a block.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let padded = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new_with_prefix(padded(0x36)).chain_update(message).finalize();
    Sha256::new_with_prefix(padded(0x5c)).chain_update(inner).finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        assert_eq!(
            hex(&hmac(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
