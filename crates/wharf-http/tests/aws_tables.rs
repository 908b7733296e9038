//! The operation tables against the service models and the list of IAM actions.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use wharf_http::aws::{Service, operations_markdown, tables};

/// The operations of the model `ecr/2015-09-21`, one per line.
const ECR_MODEL: &str = include_str!("fixtures/ecr-operations.txt");

/// The operations of the model `iam/2010-05-08`, one per line.
const IAM_MODEL: &str = include_str!("fixtures/iam-operations.txt");

fn service(name: &str) -> &'static Service {
    tables().iter().copied().find(|service| service.name == name).unwrap()
}

#[test]
fn tables_are_sorted_and_every_operation_is_found() {
    for service in tables() {
        assert!(service.operations.is_sorted_by(|one, next| one.name < next.name), "{}", service.name);
        for operation in service.operations {
            assert_eq!(service.find(operation.name).unwrap().name, operation.name);
            assert!(!operation.actions.is_empty(), "{} {}", service.name, operation.name);
        }
        assert!(service.find("NoSuchOperation").is_none());
        assert!(service.target_prefix.is_some() != service.version.is_some(), "{}", service.name);
    }
}

#[test]
fn ecr_s_table_is_the_model() {
    let model: Vec<&str> = ECR_MODEL.lines().collect();
    let table: Vec<&str> = service("ecr").operations.iter().map(|operation| operation.name).collect();
    assert_eq!(table, model);
    assert_eq!(model.len(), 62);
    assert!(service("ecr").complete);
}

#[test]
fn iam_s_table_is_the_model() {
    let model: Vec<&str> = IAM_MODEL.lines().collect();
    let table: Vec<&str> = service("iam").operations.iter().map(|operation| operation.name).collect();
    assert_eq!(table, model);
    for operation in service("iam").operations {
        assert_eq!(
            operation.actions[0],
            format!("iam:{}", operation.name),
            "each has an action of its name first"
        );
    }
}

#[test]
fn every_ecr_action_exists_and_every_callable_action_has_its_operation() {
    let ecr = service("ecr");
    for operation in ecr.operations {
        for name in operation.actions {
            assert!(wharf_iam::actions::find(name).is_some(), "{name} of {} is no action", operation.name);
        }
        // ListImageReferrers is the one operation that has no action of its own.
        let own = format!("ecr:{}", operation.name);
        let expected = if operation.name == "ListImageReferrers" { "ecr:BatchGetImage" } else { &own };
        assert_eq!(operation.actions[0], expected);
    }
    for operation in service("wharf").operations {
        assert_eq!(operation.actions, [format!("wharf:{}", operation.name)]);
        assert!(wharf_iam::actions::find(operation.actions[0]).is_some(), "{}", operation.name);
    }
    assert_eq!(service("wharf").operations.len(), wharf_iam::actions::WHARF.len());
    for action in wharf_iam::actions::ECR.iter().filter(|action| action.callable) {
        let name = action.name.strip_prefix("ecr:").unwrap();
        assert!(ecr.find(name).is_some(), "{name} has no operation");
    }
}

#[test]
fn every_action_of_the_companions_can_be_explained() {
    for name in ["iam", "sts", "kms"] {
        for operation in service(name).operations.iter().filter(|operation| operation.is_built()) {
            for action in operation.actions.iter().filter(|action| !action.starts_with("sts:AssumeRole")) {
                assert!(wharf_iam::actions::COMPANIONS.contains(action), "{action} is not in the list");
            }
        }
    }
}

#[test]
fn what_was_built_once_stays_built() {
    let built =
        |service: &Service| service.operations.iter().filter(|operation| operation.is_built()).count();
    assert!(built(service("ecr")) >= 30);
    assert_eq!(built(service("kms")), 13);
    assert_eq!(built(service("sts")), 6);
    assert_eq!(service("kms").operations.len(), 54);
}

#[test]
fn large_bodies_are_allowed_where_they_are_needed_only() {
    for service in tables() {
        for operation in service.operations {
            let large = matches!(operation.name, "PutImage" | "UploadLayerPart");
            assert_eq!(operation.body_limit > 1 << 20, large, "{}", operation.name);
        }
    }
}

#[test]
fn the_readme_s_table_names_every_operation_of_ecr_and_what_is_built_of_the_others() {
    let table = operations_markdown();
    for service in tables() {
        for operation in service.operations {
            let row = format!("| {} | `{}` | ", service.name, operation.name);
            let listed = service.name == "ecr" || operation.is_built();
            assert_eq!(table.matches(&row).count(), usize::from(listed), "{row}");
        }
    }
    assert!(table.contains("| ecr | `ListImageReferrers` | `ecr:BatchGetImage` | yes |"), "{table}");
    assert!(table.contains("| ecr | `StartImageScan` | `ecr:StartImageScan` | not yet |"));
    assert!(table.contains("| iam | `CreateUser` | `iam:CreateUser`, `iam:TagUser` | yes |"), "{table}");
}
