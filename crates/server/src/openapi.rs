//! The description of the API, made from the code that serves it.

use bytes::Bytes;
use onefold_wire::Problem;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, ResponseBuilder};
use utoipa::{Modify, ToSchema};

/// What every route has in common.
struct Common;

impl Modify for Common {
    fn modify(&self, openapi: &mut OpenApi) {
        for item in openapi.paths.paths.values_mut() {
            let operations =
                [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
            for operation in operations.into_iter().flatten() {
                describe_failures(operation);
            }
        }
        if let Some(components) = &mut openapi.components {
            let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
            components.add_security_scheme("token", bearer);
        }
    }
}

fn describe_failures(operation: &mut Operation) {
    let schema = Ref::from_schema_name(Problem::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let failure = ResponseBuilder::new()
        .description("Refused: what happened and what to do about it")
        .content(Problem::MEDIA_TYPE, content)
        .build();
    operation.responses.responses.insert("default".to_owned(), failure.into());
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Onefold",
        description = "A durable job queue: many deliveries, one effect.\n\nDurations are texts like `1h30m` or integer milliseconds, times RFC 3339 in UTC. Every failure is a problem document (RFC 9457) with a stable `code`; `/errors/{code}` says what to do about it.",
        version = env!("CARGO_PKG_VERSION"),
        license(name = "MIT OR Apache-2.0")
    ),
    security((), ("token" = [])),
    components(schemas(Problem))
)]
pub(crate) struct Api;

/// The description as it is served.
pub(crate) fn document(mut openapi: OpenApi) -> Bytes {
    Common.modify(&mut openapi);
    // Made of our own types alone.
    Bytes::from(openapi.to_json().unwrap_or_default())
}
