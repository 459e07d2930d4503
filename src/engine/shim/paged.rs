//! Attention over pages of keys and values.

use std::ffi::c_char;

use tch::Tensor;
use torch_sys::C_tensor;

use super::ffi::computed;

/// A query row: where its sequence's pages start in the list of tables, and the range of keys that it sees; the range of a row that
/// nobody asks for is empty.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PagedRow {
    pub(crate) table: i64,
    pub(crate) first: i64,
    pub(crate) end: i64,
}

/// What a pass does to the pages before it reads them, and what its rows see.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PagedPass<'a> {
    /// Pairs of a page and the page that it is copied to.
    pub(crate) copies: &'a [i64],
    /// Place of each row's key and value: page · tokens of a page + place in it; −1: nowhere.
    pub(crate) places: &'a [i64],
    /// One for each row.
    pub(crate) rows: &'a [PagedRow],
    /// Page numbers, one sequence after another.
    pub(crate) tables: &'a [i64],
}

/// Parameters of the attention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PagedForm {
    /// Query heads.
    pub(crate) heads: i64,
    /// Score scale.
    pub(crate) scale: f64,
    /// Scores are capped as c · tanh(s / c); 0: they are not.
    pub(crate) cap: f64,
}

#[repr(C)]
struct RawPass {
    copies: *const i64,
    copy_count: i64,
    places: *const i64,
    rows: *const PagedRow,
    row_count: i64,
    tables: *const i64,
}

#[repr(C)]
struct RawForm {
    heads: i64,
    kv_heads: i64,
    head_dim: i64,
    scale: f64,
    cap: f64,
}

unsafe extern "C" {
    fn loragrid_paged_attention(
        inputs: *const *const C_tensor,
        pools: *const *mut C_tensor,
        pass: *const RawPass,
        form: *const RawForm,
        message: *mut c_char,
        size: usize,
    ) -> *mut C_tensor;
}

/// Attention output `[rows, heads × head_dim]` on a CPU of queries `[rows, heads, head_dim]`, after keys and values
/// `[rows, kv_heads, head_dim]` were written into the pools `[pages, kv_heads, head_dim, page]` and `[pages, kv_heads, page, head_dim]`.
/// Panics if a page does not exist: sequences have pages of their pool only.
pub(crate) fn paged_attention(
    inputs: [&Tensor; 3],
    [keys, values]: [&mut Tensor; 2],
    pass: &PagedPass<'_>,
    form: PagedForm,
) -> Tensor {
    let pages = keys.size()[0];
    let page = keys.size()[3];
    let exists = |number: &i64| (0..pages).contains(number);
    assert!(pass.tables.iter().chain(pass.copies).all(exists), "a page does not exist");
    assert!(pass.places.iter().all(|place| *place < pages * page), "a place does not exist");
    let fits = |row: &PagedRow| row.end == 0 || (row.table + (row.end - 1) / page) < pass.tables.len() as i64;
    assert!(pass.rows.iter().all(fits), "a row sees more than its pages");
    let size = inputs[1].size();
    let raw = RawPass {
        copies: pass.copies.as_ptr(),
        copy_count: pass.copies.len() as i64 / 2,
        places: pass.places.as_ptr(),
        rows: pass.rows.as_ptr(),
        row_count: pass.rows.len() as i64,
        tables: pass.tables.as_ptr(),
    };
    let form =
        RawForm { heads: form.heads, kv_heads: size[1], head_dim: size[2], scale: form.scale, cap: form.cap };
    let inputs: [*const C_tensor; 3] = inputs.map(|tensor| tensor.as_ptr());
    let pools = [keys.as_mut_ptr(), values.as_mut_ptr()];
    // SAFETY: the tensors and lists outlive the call; the pools are mutably borrowed, and every page and place that the call reads or
    // writes was checked to exist.
    computed(|message, size| unsafe {
        loragrid_paged_attention(inputs.as_ptr(), pools.as_ptr(), &raw, &form, message, size)
    })
}
