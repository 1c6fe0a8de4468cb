//! Printing what comes page by page.

use pinion_client::{DeadLetter, DeadLetters, Peek, PeekedMessage, RequestError};

use super::Context;
use crate::failure::Failure;

/// A walk over a queue.
pub(super) trait Pages {
    /// What it finds.
    type Item;

    /// The next page, which may be empty; `None` at the end.
    async fn next_page(&mut self) -> Result<Option<Vec<Self::Item>>, RequestError>;
}

impl Pages for Peek {
    type Item = PeekedMessage;

    async fn next_page(&mut self) -> Result<Option<Vec<PeekedMessage>>, RequestError> {
        Self::next_page(self).await
    }
}

impl Pages for DeadLetters {
    type Item = DeadLetter;

    async fn next_page(&mut self) -> Result<Option<Vec<DeadLetter>>, RequestError> {
        Self::next_page(self).await
    }
}

/// Prints items until the end or `limit`. What is printed of a page can be read
/// before the next one is asked for.
pub(super) async fn print_pages<P: Pages>(
    context: &mut Context,
    mut pages: P,
    limit: Option<u64>,
    print: impl Fn(&mut Context, &P::Item),
) -> Result<(), Failure> {
    let mut left = limit.unwrap_or(u64::MAX);
    while left > 0
        && let Some(page) = pages.next_page().await?
    {
        for item in page {
            if left == 0 {
                break;
            }
            left -= 1;
            print(context, &item);
        }
        context.printer.flush().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::output::Printer;

    struct Fake {
        pages: Vec<Vec<u32>>,
        asked: u32,
    }

    impl Pages for &mut Fake {
        type Item = u32;

        async fn next_page(&mut self) -> Result<Option<Vec<u32>>, RequestError> {
            self.asked += 1;
            Ok((!self.pages.is_empty()).then(|| self.pages.remove(0)))
        }
    }

    async fn printed(fake: &mut Fake, limit: Option<u64>) -> Vec<u32> {
        let mut context = Context {
            printer: Printer::default(),
            json: false,
        };
        let seen = RefCell::new(Vec::new());
        let see = |_: &mut Context, item: &u32| seen.borrow_mut().push(*item);
        let done = print_pages(&mut context, fake, limit, see).await;
        done.expect("nothing fails");
        seen.into_inner()
    }

    #[tokio::test]
    async fn empty_pages_are_no_end_and_a_limit_asks_for_no_more() {
        let pages = || Fake {
            pages: vec![vec![1, 2], vec![], vec![3], vec![4, 5]],
            asked: 0,
        };
        let mut all = pages();
        assert_eq!(printed(&mut all, None).await, [1, 2, 3, 4, 5]);
        assert_eq!(all.asked, 5);
        let mut some = pages();
        assert_eq!(printed(&mut some, Some(3)).await, [1, 2, 3]);
        assert_eq!(some.asked, 3);
        let mut middle = pages();
        assert_eq!(printed(&mut middle, Some(4)).await, [1, 2, 3, 4]);
        assert!(printed(&mut pages(), Some(0)).await.is_empty());
    }
}
