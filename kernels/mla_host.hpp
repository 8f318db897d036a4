// What mla.cuh gives the attention kernels, for the host build; stands after host.hpp.

DEVICE void store_shared_4(u32 address, u32 v, MOEPROF_SITE) {
    std::memcpy(moeprof_host::shared_pointer(address, 4, 4, site), &v, 4);
}

DEVICE void load_matrix_x4_transposed(u32 (&r)[4], u32 address, MOEPROF_SITE) {
    using moeprof_host::MatrixRow;
    MatrixRow mine{r, moeprof_host::shared_pointer(address, 16, 16, site)};
    moeprof_host::warp_collective("load_matrix_x4_transposed", moeprof_host::ALL_LANES, true, mine,
                                  [](MatrixRow* (&lanes)[32]) {
        for (u32 lane = 0; lane < 32; ++lane) {
            for (u32 i = 0; i < 4; ++i) {
                u16 two[2];
                for (u32 j = 0; j < 2; ++j) {
                    const u8* const row = lanes[8 * i + lane % 4 * 2 + j]->row;
                    std::memcpy(&two[j], row + lane / 4 * 2, 2);
                }
                std::memcpy(&lanes[lane]->r[i], two, 4);
            }
        }
    }, site);
}
