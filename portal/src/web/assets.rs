//! `GET /assets/{hash}.{css,js,svg}`: files that never change at their address.

use std::{io, sync::Arc};

use axum::{Router, extract::Request, routing::get};

use super::WebState;
use crate::assets::ASSETS;

/// One route per file of this build.
pub(super) fn router() -> io::Result<Router<Arc<WebState>>> {
    ASSETS.all().into_iter().try_fold(Router::new(), |router, asset| {
        let encoded = Arc::new(asset.encode()?);
        let answer = async move |request: Request| encoded.answer(request.headers());
        Ok(router.route(&asset.path, get(answer)))
    })
}
