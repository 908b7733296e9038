//! Several nodes on the same stores: what one acknowledges counts on all, and what one remembers hides nothing.
#![allow(clippy::unwrap_used)]

/// Runs tests on each engine: on SQLite nodes share one handle, on PostgreSQL (where there is one) each has its own.
#[macro_export]
macro_rules! on_every_engine {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($crate::cluster::Cluster::on_sqlite()).await;
                }
            )+
        }

        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    if let Some(cluster) = $crate::cluster::Cluster::on_postgres().await {
                        super::$test(cluster).await;
                    }
                }
            )+
        }
    };
}

mod access;
mod cluster;
mod figures;
mod history;
mod images;
mod linearizability;
mod start;
mod uploads;
mod work;
