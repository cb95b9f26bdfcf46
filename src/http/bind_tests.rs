//! Tables for binding; the expected values were taken from PocketBase v0.40.4's binder.

use bytes::Bytes;

use super::*;
use crate::http::body::{Head, parse};

const FIELDS: &[Field] = &[
    Field { name: "name", element: "Name", shape: Shape::Text },
    Field { name: "duration", element: "Duration", shape: Shape::Whole },
];

async fn check(content_type: &str, cases: &[(&str, Option<&str>)]) {
    for (text, expected) in cases {
        let head =
            Head { content_type: content_type.as_bytes(), query: "name=q&zz=1", announced: true };
        let body = parse(&head, Bytes::copy_from_slice(text.as_bytes()));
        let found = body.await.and_then(|body| bind(&body, FIELDS)).ok();
        let found = found.map(|found| Value::Object(found).to_string());
        assert_eq!(found.as_deref(), *expected, "{content_type} {text}");
    }
}

#[actix_web::test]
async fn json_is_bound_as_go_binds_it() {
    check(
        "application/json",
        &[
            (r#"{"NAME":"x"}"#, Some(r#"{"name":"x"}"#)),
            (r#"{"na_me":"x","zz":1}"#, Some(r#"{"name":"x"}"#)),
            (r#"{"name":"x","Name":"y"}"#, None),
            (r#"{"zz":1,"zz":2}"#, None),
            (r#"{"name":null,"in":null}"#, Some(r#"{"name":null}"#)),
            ("null", Some(r#"{"duration":null,"name":null}"#)),
            (r#"{"name":1}"#, None),
            (r#"{"duration":1.0}"#, None),
            (r#"{"duration":1e2}"#, None),
            (r#"{"duration":"1"}"#, None),
            (r#"{"duration":99999999999999999999}"#, None),
            (r#"{"duration":-0}"#, Some(r#"{"duration":0}"#)),
            ("[]", None),
            (r#""a.zip""#, None),
            ("{}", Some("{}")),
        ],
    )
    .await;
}

#[actix_web::test]
async fn forms_are_bound_as_go_binds_them() {
    check(
        "application/x-www-form-urlencoded",
        &[
            ("name=a&name=b&duration=0x10", Some(r#"{"duration":16,"name":"a"}"#)),
            ("Name=a", Some(r#"{"name":"q"}"#)),
            ("duration=", Some(r#"{"duration":0,"name":"q"}"#)),
            ("duration=1_0", Some(r#"{"duration":10,"name":"q"}"#)),
            ("duration=010", Some(r#"{"duration":8,"name":"q"}"#)),
            ("duration=-0b11", Some(r#"{"duration":-3,"name":"q"}"#)),
            ("duration=1__0", None),
            ("duration=1.0", None),
            ("in.duration=1", Some(r#"{"name":"q"}"#)),
            (
                r#"name=a&@jsonPayload={"NAME":"z","duration":3}"#,
                Some(r#"{"duration":3,"name":"a"}"#),
            ),
            (r#"name=a&@jsonPayload={"name":"z"} x"#, None),
            ("name=a&@jsonPayload=[]", None),
            ("name=a&@jsonPayload=", None),
            (
                r#"duration=1&@jsonPayload={"duration":2}&@jsonPayload={"name":"p"}"#,
                Some(r#"{"duration":2,"name":"p"}"#),
            ),
        ],
    )
    .await;
}

#[actix_web::test]
async fn xml_is_bound_by_the_names_of_elements() {
    check(
        "application/xml",
        &[
            (
                "<x><Name>a</Name><Duration> 5 </Duration><In><Name>c</Name></In></x>",
                Some(r#"{"duration":5,"name":"a"}"#),
            ),
            ("<x><name>a</name></x>", Some("{}")),
            ("<x><Name>a</Name><Name>b</Name></x>", Some(r#"{"name":"b"}"#)),
            ("<x><Duration>z</Duration></x>", None),
            ("<x><Duration>0x1</Duration></x>", None),
            ("<x><Duration></Duration></x>", Some(r#"{"duration":0}"#)),
            ("<x Name=\"a\"/>", Some("{}")),
        ],
    )
    .await;
}
