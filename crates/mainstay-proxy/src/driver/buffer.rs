//! Buffers that belong to nobody while they are empty.

use std::cell::{Cell, RefCell};

/// What one read takes at most.
pub(crate) const READ_MAX: usize = 64 * 1024;
/// What a buffer begins with: most heads, so that it does not grow step by step.
const CAPACITY: usize = 2048;
/// Larger allocations are not kept.
const KEEP_CAPACITY_MAX: usize = 2 * READ_MAX;
/// So many bytes are kept by a thread: the heads of a thousand requests under way.
const KEEP_MAX: usize = 2 << 20;

/// Bytes that wait: consumed at the front, added at the end.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    data: Vec<u8>,
    at: usize,
}

impl Buffer {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data[self.at..]
    }

    pub(crate) fn len(&self) -> usize {
        self.data.len() - self.at
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.data.len()
    }

    pub(crate) fn consume(&mut self, n: usize) {
        self.at += n;
        debug_assert!(self.at <= self.data.len());
        if self.at >= self.data.len() {
            self.data.clear();
            self.at = 0;
        }
    }

    /// The end, to add to.
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        if self.at > 0 && self.at >= self.data.len() / 2 {
            self.data.drain(..self.at);
            self.at = 0;
        }
        &mut self.data
    }
}

/// A thread's spare allocations.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    spare: RefCell<Vec<Vec<u8>>>,
    /// Bytes of the spare ones.
    kept: Cell<usize>,
}

impl Buffers {
    pub(crate) fn take(&self) -> Vec<u8> {
        let Some(data) = self.spare.borrow_mut().pop() else { return Vec::with_capacity(CAPACITY) };
        self.kept.set(self.kept.get() - data.capacity());
        data
    }

    pub(crate) fn give(&self, mut data: Vec<u8>) {
        let (size, kept) = (data.capacity(), self.kept.get());
        if size > 0 && size <= KEEP_CAPACITY_MAX && kept + size <= KEEP_MAX {
            self.kept.set(kept + size);
            data.clear();
            self.spare.borrow_mut().push(data);
        }
    }

    /// Adds to a buffer, giving it an allocation if it has none.
    pub(crate) fn extend(&self, buffer: &mut Buffer, bytes: &[u8]) {
        self.prepare(buffer).extend_from_slice(bytes);
    }

    /// The end of a buffer, with an allocation.
    pub(crate) fn prepare<'b>(&self, buffer: &'b mut Buffer) -> &'b mut Vec<u8> {
        if buffer.data.capacity() == 0 {
            buffer.data = self.take();
        }
        buffer.end()
    }

    /// Takes an empty buffer's allocation back.
    pub(crate) fn recycle(&self, buffer: &mut Buffer) {
        if buffer.is_empty() {
            buffer.at = 0;
            self.give(std::mem::take(&mut buffer.data));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        let buffers = Buffers::default();
        let mut buffer = Buffer::default();
        buffers.extend(&mut buffer, b"abc");
        buffer.consume(2);
        buffers.extend(&mut buffer, b"def");
        assert_eq!(buffer.bytes(), b"cdef");
        buffer.consume(4);
        assert!(buffer.is_empty());
    }

    #[test]
    fn an_empty_buffer_gives_its_memory_back_and_a_large_one_is_not_kept() {
        let buffers = Buffers::default();
        let mut buffer = Buffer::default();
        buffers.extend(&mut buffer, b"abc");
        buffers.recycle(&mut buffer);
        assert_eq!(buffer.bytes(), b"abc", "a buffer in use is left alone");
        buffer.consume(3);
        buffers.recycle(&mut buffer);
        assert_eq!((buffer.data.capacity(), buffers.spare.borrow().len()), (0, 1));
        buffers.give(Vec::with_capacity(KEEP_CAPACITY_MAX + 1));
        assert_eq!(buffers.spare.borrow().len(), 1);
    }

    #[test]
    fn no_more_than_a_bound_is_kept_and_what_is_taken_makes_room() {
        let buffers = Buffers::default();
        (0..100).for_each(|_| buffers.give(Vec::with_capacity(KEEP_CAPACITY_MAX)));
        let held = |buffers: &Buffers| buffers.spare.borrow().len() * KEEP_CAPACITY_MAX;
        assert_eq!(held(&buffers), KEEP_MAX);
        drop(buffers.take());
        buffers.give(Vec::with_capacity(KEEP_CAPACITY_MAX));
        assert_eq!(held(&buffers), KEEP_MAX);
    }
}
