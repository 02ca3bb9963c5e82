//! Kinds of texts.

use crate::reference::Text;

macro_rules! texts {
    ($($name:ident: $what:literal, $pattern:literal;)*) => {
        $(pub(super) static $name: Text = Text { what: $what, pattern: $pattern };)*
    };
}

texts! {
    NAME: "name of 1 to 63 letters, digits, `.`, `_`, `-`", r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$";
    VERSION: "label like a name, but not `stable`", r"^(?!stable$)[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$";
    LABEL: "DNS label of 1 to 63 of a-z, 0-9 and `-`", r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";
    DISPLAY: "text of 1 to 100 characters in any script", r"^[^\u0000-\u001f\u007f-\u009f]{1,100}$";
    ANY: "text", r"^";
    FILE: "path of a file", r"^.+$";
    ZONE_NAME: "IANA time zone", r"^[A-Za-z0-9._+/-]+$";
    DATE: "date such as `2026-11-08`", r"^(19|2[0-9])[0-9]{2}-[0-9]{2}-[0-9]{2}$";
    TIME: "time of day such as `\"07:30\"`, to `\"24:00\"`", r"^(([01]?[0-9]|2[0-3])(:[0-5][0-9])?|24(:00)?)$";
    INSTANT: "RFC 3339 time with an offset, such as `2026-11-25T09:00+05:30`", r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?([Zz]|[+-][0-9]{2}:[0-9]{2})$";
    PATH: "path that begins with `/`, without query", r##"^/[!"$->@-~]*$"##;
    METHOD: "method in capital letters", r"^[A-Z]{1,20}$";
    GRPC: "full name of a gRPC service", r"^[A-Za-z0-9._]{1,255}$";
    GRPC_OR_EMPTY: "full name of a gRPC service, or `\"\"` for the whole server", r"^[A-Za-z0-9._]{0,255}$";
    HEADER: "name of a request header", r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}$";
    HEADER_VALUE: "exact value of the header", r"^([^\s\u0000-\u001f\u007f]([^\u0000-\u0008\u000a-\u001f\u007f]*[^\s\u0000-\u001f\u007f])?)?$";
    HOST: "IP address or DNS name", r"^[A-Za-z0-9._:-]+$";
    URL_HOST: "host without port", r"^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])$";
    HOST_PATTERN: "host without port, `*.example.com`, or `*`", r"^(\*|(\*\.)?[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])$";
    LISTEN: "ADDRESS:PORT", r"^([0-9.]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$";
    COLLECTOR: "HOST:PORT", r"^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$";
    MEDIA_TYPE: "media type such as `application/json`", r"^[ -~]{1,100}$";
    BODY: "text of at most 4096 bytes", r"^[\s\S]{0,4096}$";
}
