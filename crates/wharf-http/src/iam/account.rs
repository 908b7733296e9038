//! What IAM says of an account as a whole: aliases and the summary.

use wharf_registry::Authorized;
use wharf_types::AccountId;

use super::parameters;
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Pattern, Text, Xml};

/// `accountAliasType`
const ALIAS: Text = Text::length(3, 63).matching(Pattern {
    text: "^[a-z0-9]([a-z0-9]|-(?!-)){1,61}[a-z0-9]$",
    matches: |text| {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        text.bytes().all(legal) && !text.starts_with('-') && !text.ends_with('-') && !text.contains("--")
    },
});

/// `CreateAccountAlias`
pub(crate) struct CreateAccountAlias(String);

impl Call for CreateAccountAlias {
    const ACTIONS: &'static [&'static str] = &["iam:CreateAccountAlias"];
    type Target = AccountId;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, AccountId), AwsError> {
        Ok((Self(input.required_text("AccountAlias", &ALIAS)?), request.caller().identity.account))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<AccountId>) -> Result<Answer, AwsError> {
        request.registry().create_account_alias(&of, self.0).await?;
        Ok(Answer::Empty)
    }
}

/// `DeleteAccountAlias`
pub(crate) struct DeleteAccountAlias(String);

impl Call for DeleteAccountAlias {
    const ACTIONS: &'static [&'static str] = &["iam:DeleteAccountAlias"];
    type Target = AccountId;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, AccountId), AwsError> {
        Ok((Self(input.required_text("AccountAlias", &ALIAS)?), request.caller().identity.account))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<AccountId>) -> Result<Answer, AwsError> {
        request.registry().delete_account_alias(&of, self.0).await?;
        Ok(Answer::Empty)
    }
}

/// `ListAccountAliases`
pub(crate) struct ListAccountAliases;

impl Call for ListAccountAliases {
    const ACTIONS: &'static [&'static str] = &["iam:ListAccountAliases"];
    type Target = AccountId;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, AccountId), AwsError> {
        // There is one at most, so there is never a second page.
        parameters::page(&mut input)?;
        Ok((Self, request.caller().identity.account))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<AccountId>) -> Result<Answer, AwsError> {
        let alias = request.registry().account_alias(&of).await?;
        Ok(Xml::new().texts("AccountAliases", alias).page(None).into())
    }
}

/// `GetAccountSummary`
pub(crate) struct GetAccountSummary;

impl Call for GetAccountSummary {
    const ACTIONS: &'static [&'static str] = &["iam:GetAccountSummary"];
    type Target = AccountId;

    fn parse(_input: Input, request: &AwsRequest<'_>) -> Result<(Self, AccountId), AwsError> {
        Ok((Self, request.caller().identity.account))
    }

    async fn run(self, request: &AwsRequest<'_>, of: Authorized<AccountId>) -> Result<Answer, AwsError> {
        let summary = request.registry().account_summary(&of).await?;
        let map = summary.into_iter().fold(Xml::new(), |map, (key, count)| {
            let entry = Xml::new().text("key", key).text("value", &count.to_string());
            map.element("entry", entry)
        });
        Ok(Xml::new().element("SummaryMap", map).into())
    }
}
