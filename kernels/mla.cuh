// What attention asks of a GPU beyond device.cuh; mla_host.hpp is the same for the host build.

DEVICE void store_shared_4(u32 address, u32 v) {
    asm volatile("st.shared.u32 [%0], %1;" :: "r"(address), "r"(v) : "memory");
}

// As load_matrix_x4, each matrix transposed: lane (g, t) gets rows 2t and 2t + 1 of column g.
DEVICE void load_matrix_x4_transposed(u32 (&r)[4], u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}
