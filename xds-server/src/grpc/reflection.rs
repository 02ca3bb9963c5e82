//! gRPC reflection, v1 and v1alpha, so that grpcurl needs no `.proto` files: `list`, `describe`, and calls
//! whose `Any`s are decoded. It tells the API and nothing of what is served by it.

use tonic_reflection::server::{
    Builder, Error,
    v1::{ServerReflection, ServerReflectionServer},
    v1alpha::{ServerReflection as ServerReflectionAlpha, ServerReflectionServer as AlphaServer},
};

use crate::compile::ENVOY_DESCRIPTORS;

/// Services that every server of ours has beside those of Envoy's API.
const OWN: [&str; 3] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// The service as grpcurl 1.8.8 and newer ask for it.
pub(super) fn v1(names: &[&str]) -> Result<ServerReflectionServer<impl ServerReflection>, Error> {
    builder(names).build_v1()
}

/// The service as older clients ask for it.
pub(super) fn v1alpha(names: &[&str]) -> Result<AlphaServer<impl ServerReflectionAlpha>, Error> {
    builder(names).build_v1alpha()
}

fn builder(names: &[&str]) -> Builder<'static> {
    let builder = Builder::configure()
        .register_encoded_file_descriptor_set(ENVOY_DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET);
    names
        .iter()
        .chain(&OWN)
        .fold(builder, |builder, name| builder.with_service_name(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptors_that_the_build_made_are_taken_by_both_versions() {
        let names = ["envoy.service.discovery.v3.AggregatedDiscoveryService"];
        assert!(v1(&names).is_ok());
        assert!(v1alpha(&names).is_ok());
    }
}
