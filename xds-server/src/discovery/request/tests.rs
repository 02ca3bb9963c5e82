//! What is read of requests is what prost reads of them; what is no request harms nobody.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("*".into()),
        "[a-c]{1,3}",
        ".{0,6}"
    ]
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(text(), 0..5)
}

fn error() -> impl Strategy<Value = Option<rpc::Status>> {
    prop::option::of(text().prop_map(|message| rpc::Status {
        message,
        ..rpc::Status::default()
    }))
}

prop_compose! {
    fn state_of_the_world()(
        version_info in text(),
        resource_names in texts(),
        type_url in text(),
        response_nonce in text(),
        error_detail in error(),
    ) -> DiscoveryRequest {
        DiscoveryRequest {
            version_info,
            resource_names,
            type_url,
            response_nonce,
            error_detail,
            ..DiscoveryRequest::default()
        }
    }
}

prop_compose! {
    fn delta()(
        resource_names_subscribe in texts(),
        resource_names_unsubscribe in texts(),
        initial_resource_versions in prop::collection::hash_map(text(), text(), 0..3),
        type_url in text(),
        response_nonce in text(),
        error_detail in error(),
    ) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            resource_names_subscribe,
            resource_names_unsubscribe,
            initial_resource_versions,
            type_url,
            response_nonce,
            error_detail,
            ..DeltaDiscoveryRequest::default()
        }
    }
}

fn scan(variant: Variant, bytes: Vec<u8>) -> Result<Message, RequestError> {
    Message::scan(variant, bytes.into(), 42)
}

fn read(names: &[String]) -> Vec<Name> {
    names.iter().map(|name| (**name).into()).collect()
}

proptest! {
    #[test]
    fn a_request_of_the_state_of_the_world_is_read_as_it_is(request in state_of_the_world()) {
        let message = scan(Variant::StateOfTheWorld, request.encode_to_vec()).unwrap();
        prop_assert_eq!(message.type_url(), request.type_url.as_bytes());
        let found = message.into_request(ResourceType::Cluster).unwrap();
        prop_assert_eq!(&*found.nonce, request.response_nonce.as_bytes());
        let told = request.error_detail.map(|status| status.message.trim_end().to_string());
        prop_assert_eq!(found.error, told);
        let expected = Interest::Names {
            names: read(&request.resource_names),
            version: request.version_info,
        };
        prop_assert_eq!(found.asked.interest().unwrap(), expected);
    }

    #[test]
    fn a_delta_request_is_read_as_it_is(request in delta()) {
        let message = scan(Variant::Delta, request.encode_to_vec()).unwrap();
        let found = message.into_request(ResourceType::Cluster).unwrap();
        let Interest::Changes { subscribe, unsubscribe, known } = found.asked.interest().unwrap()
        else {
            panic!("not a delta request")
        };
        prop_assert_eq!(subscribe, read(&request.resource_names_subscribe));
        prop_assert_eq!(unsubscribe, read(&request.resource_names_unsubscribe));
        let known: HashMap<String, String> =
            known.iter().map(|(name, version)| (name.to_string(), version.to_string())).collect();
        prop_assert_eq!(&known, &request.initial_resource_versions);
        let names_nothing = request.resource_names_subscribe.is_empty()
            && request.resource_names_unsubscribe.is_empty()
            && request.initial_resource_versions.is_empty();
        prop_assert_eq!(found.asked.is_empty, names_nothing);
    }

    /// An acknowledgement that repeats the names is known by its fingerprint, whatever else it says.
    #[test]
    fn equal_names_and_only_those_have_equal_fingerprints(
        one in state_of_the_world(), other in state_of_the_world(),
    ) {
        let fingerprint = |request: &DiscoveryRequest| {
            let message = scan(Variant::StateOfTheWorld, request.encode_to_vec()).unwrap();
            message.asked.fingerprint
        };
        let repeats = DiscoveryRequest {
            resource_names: one.resource_names.clone(),
            ..other.clone()
        };
        prop_assert_eq!(fingerprint(&one), fingerprint(&repeats));
        prop_assert_eq!(
            fingerprint(&one) == fingerprint(&other),
            one.resource_names == other.resource_names
        );
    }

    #[test]
    fn garbage_is_refused_or_means_something(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        for variant in [Variant::StateOfTheWorld, Variant::Delta] {
            let Ok(message) = scan(variant, bytes.clone()) else {
                continue;
            };
            let _ = message.node();
            if let Ok(request) = message.into_request(ResourceType::Listener) {
                let _ = request.asked.interest();
            }
        }
    }
}

#[test]
fn a_request_that_ends_in_the_middle_of_a_field_is_malformed() {
    let request = DiscoveryRequest {
        resource_names: vec!["orders".into()],
        ..DiscoveryRequest::default()
    };
    let mut bytes = request.encode_to_vec();
    bytes.pop();
    let error = scan(Variant::StateOfTheWorld, bytes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the request is no discovery request: it ends too early"
    );
}
