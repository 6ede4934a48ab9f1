//! Interim responses (RFC 9110 section 15.2); a handler cannot send one, but it can answer with such a status.

use crate::origin::{answer, defaults, ok, rfc, site, site_under};

// RFC 9110 section 15.2, RFC 9111 section 3, row 40, L18; the defaults too
#[actix_web::test]
async fn an_answer_with_an_interim_status_is_passed_on_and_not_stored() {
    let fields =
        [("cache-control", "public, max-age=60"), ("etag", "\"a\""), ("link", "</a.css>; rel=preload")];
    for status in [100, 101, 102, 103, 199] {
        for builder in [rfc(), defaults()] {
            let site = site_under(builder, &[answer(status, &fields, "")]).await;
            for run in 1..4 {
                let reply = site.get("/x", &[]).await;
                assert_eq!((reply.status, site.runs()), (status, run));
                assert_eq!(reply.field("link"), "</a.css>; rel=preload");
                assert_eq!(site.last().field("if-none-match"), "-", "{status}");
            }
        }
    }
}

// RFC 9110 section 15.2, row 40
#[actix_web::test]
async fn the_fields_of_an_interim_answer_are_not_in_the_final_one() {
    let early = answer(103, &[("cache-control", "max-age=600"), ("link", "</a.css>"), ("x-early", "1")], "");
    let site = site(&[early, ok(&[("cache-control", "max-age=60"), ("x-final", "1")])]).await;
    assert_eq!(site.get("/x", &[]).await.status, 103);
    for _ in 0..2 {
        let reply = site.get("/x", &[]).await;
        assert_eq!((reply.status, reply.text().as_str(), site.runs()), (200, "body", 2));
        assert_eq!([reply.field("link"), reply.field("x-early"), reply.field("x-final")], ["-", "-", "1"]);
        assert_eq!(reply.field("cache-control"), "max-age=60");
    }
}
