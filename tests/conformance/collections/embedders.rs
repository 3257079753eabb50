//! What embedders list.

use charm_conformance::{host, only, pair, probe};
use charm_host::{LIST_PAGE_MAX, ReadError, Right};

use crate::fill;

/// (C8)
#[tokio::test(flavor = "multi_thread")]
async fn a_host_lists_cells_page_by_page() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let many: Vec<String> = (0..LIST_PAGE_MAX + 5).map(|number| format!("many:{number:05}")).collect();
    fill(&host, a, &many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    fill(&host, a, &["items:1", "items:2", "items:3"]).await;
    let page = host.list(&a, "items:", None, 2).await.unwrap();
    let names: Vec<&str> = page.cells.iter().map(|cell| &*cell.name).collect();
    assert_eq!(names, ["items:1", "items:2"]);
    let rest = host.list(&a, "items:", page.next.as_deref(), 2).await.unwrap();
    assert_eq!((rest.cells.len(), &*rest.cells[0].name, rest.next), (1, "items:3", None));
    let (mut start, mut listed) = (None, Vec::new());
    loop {
        let page = host.list(&a, "many:", start.as_deref(), usize::MAX).await.unwrap();
        assert!(page.cells.len() <= LIST_PAGE_MAX);
        listed.extend(page.cells.into_iter().map(|cell| cell.name.to_string()));
        start = page.next;
        if start.is_none() {
            break;
        }
    }
    assert_eq!(listed, many);
    assert_eq!(host.cells(&a).await.unwrap().len(), many.len() + 3 + 1);
    host.shutdown().await.unwrap();
}

/// (I4)
#[tokio::test(flavor = "multi_thread")]
async fn who_is_outside_lists_what_is_granted() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    fill(&host, b, &["items:1", "drawer:1"]).await;
    let list = async |prefix: &str| host.list_as(&a, &b, prefix, None, 10).await;
    assert!(matches!(list("items:").await, Err(ReadError::Denied { cell, .. }) if cell == "items:"));
    host.grant(a, Right::Read { owner: b, cells: only(&["items:"]) }).await.unwrap();
    assert_eq!(list("items:").await.unwrap().cells.len(), 1);
    for prefix in ["", "items", "drawer:"] {
        assert!(matches!(list(prefix).await, Err(ReadError::Denied { .. })), "{prefix}");
    }
    assert_eq!(host.get_as::<u64>(&a, &b, "items:1", "").await.unwrap(), Some(0));
    host.shutdown().await.unwrap();
}
