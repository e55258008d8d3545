//! The page that shows the interface (contract §1 "base path").

use anyhow::Result;
use tests::contract::Site;

#[tokio::test]
async fn the_page_and_all_it_needs_come_from_us_and_name_no_other_host() -> Result<()> {
    let site = Site::start().await?;
    for (path, media) in [
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/page.css", "text/css; charset=utf-8"),
        ("/docs/page.js", "text/javascript; charset=utf-8"),
    ] {
        let answer = reqwest::get(format!("{}{path}", site.url)).await?;
        assert_eq!((answer.status().as_u16(), answer.headers()["content-type"].to_str()?), (200, media), "{path}");
        let policy = answer.headers()["content-security-policy"].to_str()?.to_owned();
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe") && !policy.contains("http"));
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        let text = answer.text().await?;
        assert!(!text.is_empty());
        for foreign in ["http://", "https://", "=\"//", "url(", "@import", "style=", "onclick", "<script>"] {
            assert!(!text.contains(foreign), "{path} contains {foreign}");
        }
        for named in text.split(['"', '\'']).filter(|word| word.starts_with("docs/")) {
            assert_eq!(reqwest::get(format!("{}/{named}", site.url)).await?.status(), 200, "{named}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn redoc_leads_to_the_page_and_the_document_to_every_operation() -> Result<()> {
    let site = Site::start().await?;
    let answer = reqwest::get(format!("{}/redoc", site.url)).await?;
    assert_eq!((answer.status().as_u16(), answer.url().path()), (200, "/docs"));
    let document: serde_json::Value = reqwest::get(format!("{}/openapi.json", site.url)).await?.json().await?;
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    for (path, methods) in [
        ("/api/v1/merchants/", vec!["get", "post"]),
        ("/api/v1/merchants/{id}", vec!["delete", "get", "patch"]),
        ("/api/v1/merchants/{id}/status", vec!["patch"]),
        ("/api/v1/offers/", vec!["get", "post"]),
        ("/api/v1/offers/active", vec!["get"]),
        ("/api/v1/offers/{id}", vec!["delete", "get", "patch"]),
        ("/api/v1/offers/{id}/status", vec!["patch"]),
        ("/api/v1/feature-flags", vec!["get"]),
        ("/api/v1/feature-flags/{key}", vec!["delete", "put"]),
        ("/api/v1/feature-flags/{key}/evaluate", vec!["get"]),
    ] {
        let mut listed: Vec<&str> =
            document["paths"][path].as_object().into_iter().flat_map(|item| item.keys()).map(String::as_str).collect();
        listed.sort_unstable();
        assert_eq!(listed, methods, "{path}");
    }
    Ok(())
}

/// What the form of OpenAPI 3.1 demands and a generator may leave out, and both probes (contract §2, rows 1 and 2).
#[tokio::test]
async fn the_document_has_the_form_that_openapi_3_1_demands() -> Result<()> {
    let site = Site::start().await?;
    let document: serde_json::Value = reqwest::get(format!("{}/openapi.json", site.url)).await?.json().await?;
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.contains_key("/health/live") && paths.contains_key("/health/ready"));
    let mut names = std::collections::BTreeSet::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            for (status, response) in operation["responses"].as_object().expect("responses") {
                let said = response["description"].as_str().unwrap_or_default();
                assert!(!said.is_empty(), "{method} {path} {status} has no description");
            }
            for name in path.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name) {
                let declared =
                    parameters.iter().any(|parameter| parameter["in"] == "path" && parameter["name"] == name);
                assert!(declared, "{method} {path}: {name}");
            }
            if path.starts_with("/api/v1") {
                for status in ["422", "429", "500", "503"] {
                    assert!(operation["responses"].get(status).is_some(), "{method} {path}: {status}");
                }
                let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
                assert!(!id.is_empty() && names.insert(id.clone()), "{method} {path}: {id} names two");
            }
        }
    }
    let text = document.to_string();
    for part in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap_or_default();
        assert!(document["components"]["schemas"].get(name).is_some(), "{name} is nowhere");
    }
    Ok(())
}
