//! What holds for every route (contract §1, §3).

use anyhow::Result;
use tests::contract::Site;

#[tokio::test]
async fn unknown_routes_and_methods_keep_the_short_form_of_section_1() -> Result<()> {
    let site = Site::start().await?;
    let answer = site.anonymous().get("/nonsense").await?;
    assert_eq!((answer.status, answer.body["detail"].as_str()), (404, Some("Not Found")));
    Ok(())
}

#[tokio::test]
async fn a_request_id_is_taken_over_and_made_where_there_is_none() -> Result<()> {
    let site = Site::start().await?;
    let given = site.anonymous().call(reqwest::Method::GET, "/x", None, &[("x-request-id", "abc-1")]).await?;
    assert_eq!(given.headers["x-request-id"], "abc-1");
    let made = site.anonymous().get("/x").await?;
    assert_eq!(made.headers["x-request-id"].len(), 36);
    let hostile = site.anonymous().call(reqwest::Method::GET, "/x", None, &[("x-request-id", "a b")]).await?;
    assert_ne!(hostile.headers["x-request-id"], "a b");
    Ok(())
}
