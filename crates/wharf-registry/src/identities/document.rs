//! The text of a policy as a tree that keeps the order of its members, so that it reads as it was written.

use std::fmt::{self, Write as _};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// A JSON value whose objects keep their order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    /// An object.
    Object(Vec<(String, Node)>),
    /// A list.
    List(Vec<Node>),
    /// Anything else.
    Scalar(Value),
}

impl Node {
    /// Reads JSON; `None` if it is none, or nested too deeply.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Text without white space.
    pub(crate) fn compact(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, None);
        out
    }

    /// Text as ECR returns policies: two spaces, ` : ` after names, lists on one line with what they hold.
    pub(crate) fn pretty(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, Some(0));
        out
    }

    fn write(&self, out: &mut String, depth: Option<usize>) {
        match self {
            Self::Scalar(value) => out.push_str(&value.to_string()),
            Self::List(items) => {
                let (open, comma, close) = match depth {
                    Some(_) if items.is_empty() => ("[", "", " ]"),
                    Some(_) => ("[ ", ", ", " ]"),
                    None => ("[", ",", "]"),
                };
                out.push_str(open);
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { comma } else { "" });
                    item.write(out, depth);
                }
                out.push_str(close);
            }
            Self::Object(members) => write_object(members, out, depth),
        }
    }

    /// Calls `change` with every `AWS` principal, those of `NotPrincipal` too.
    pub(crate) fn for_each_principal<E>(
        &mut self,
        mut change: impl FnMut(&mut String) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self::Object(members) = self else { return Ok(()) };
        let of = members.iter_mut().filter(|(name, _)| name == "Statement").map(|(_, node)| node);
        for statement in of.flat_map(Self::items_mut) {
            let Self::Object(elements) = statement else { continue };
            let named = |(name, _): &&mut (String, Node)| name == "Principal" || name == "NotPrincipal";
            for (_, principal) in elements.iter_mut().filter(named) {
                let Self::Object(kinds) = principal else { continue };
                for (_, values) in kinds.iter_mut().filter(|(kind, _)| kind == "AWS") {
                    for value in values.items_mut() {
                        if let Self::Scalar(Value::String(text)) = value {
                            change(text)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The items of a list, or the one thing that stands for a list of one.
    fn items_mut(&mut self) -> &mut [Node] {
        match self {
            Self::List(items) => items,
            other => std::slice::from_mut(other),
        }
    }
}

fn write_object(members: &[(String, Node)], out: &mut String, depth: Option<usize>) {
    out.push('{');
    let inner = depth.map(|depth| depth + 1);
    let line = |out: &mut String, depth: Option<usize>| {
        if let Some(depth) = depth {
            // Writing to a string does not fail.
            let _ = write!(out, "\n{:1$}", "", depth * 2);
        }
    };
    for (index, (name, value)) in members.iter().enumerate() {
        out.push_str(if index > 0 { "," } else { "" });
        line(out, inner);
        out.push_str(&Value::from(name.as_str()).to_string());
        out.push_str(if depth.is_some() { " : " } else { ":" });
        value.write(out, inner);
    }
    match members.is_empty() {
        true if depth.is_some() => out.push(' '),
        true => {}
        false => line(out, depth),
    }
    out.push('}');
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Node::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Scalar(text.into()))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Node, E> {
        Ok(Node::Scalar(flag.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Scalar(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Scalar(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
        Ok(Node::Scalar(number.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"Version":"2008-10-17","Statement":[{"Sid":"a \"b\"","Effect":"Allow",
        "Principal":{"AWS":["arn:aws:iam::123456789012:user/a","*"]},"Action":["ecr:BatchGetImage","ecr:ListImages"],
        "Condition":{"Null":{"aws:x":true},"NumericEquals":{"n":1.5}}}],"Id":"z"}"#;

    #[test]
    fn policies_are_printed_as_ecr_prints_them() {
        let node = Node::parse(TEXT).unwrap();
        assert_eq!(
            node.pretty(),
            r#"{
  "Version" : "2008-10-17",
  "Statement" : [ {
    "Sid" : "a \"b\"",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : [ "arn:aws:iam::123456789012:user/a", "*" ]
    },
    "Action" : [ "ecr:BatchGetImage", "ecr:ListImages" ],
    "Condition" : {
      "Null" : {
        "aws:x" : true
      },
      "NumericEquals" : {
        "n" : 1.5
      }
    }
  } ],
  "Id" : "z"
}"#
        );
        assert_eq!(Node::parse(&node.pretty()), Some(node.clone()));
        assert_eq!(Node::parse(&node.compact()), Some(node));
        assert_eq!(
            Node::parse(r#"{"a":[],"b":{}}"#).unwrap().pretty(),
            "{\n  \"a\" : [ ],\n  \"b\" : { }\n}"
        );
    }

    #[test]
    fn principals_are_found_in_either_form_of_a_list() {
        let seen = |text: &str| {
            let mut seen = Vec::new();
            let mut node = Node::parse(text).unwrap();
            let _ = node.for_each_principal(|principal| {
                seen.push(principal.clone());
                Ok::<_, ()>(())
            });
            seen
        };
        assert_eq!(seen(TEXT), ["arn:aws:iam::123456789012:user/a", "*"]);
        assert_eq!(
            seen(r#"{"Statement":{"NotPrincipal":{"AWS":"1","Service":"s"},"Principal":"*"}}"#),
            ["1"]
        );
        assert!(seen("[]").is_empty() && Node::parse(&"[".repeat(100_000)).is_none());
    }
}
