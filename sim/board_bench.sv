// A board with a serial line: the system on its chip, and the SDRAM, whose clock is inverted so that
// commands reach it in the middle of their cycle.

module board_bench (
    input  logic        clk,
    input  logic        rst,
    input  logic        rx,
    output logic        tx,
    output logic [31:0] violations,
    output logic [7:0]  first_violation
);
    logic cke, cs_n, ras_n, cas_n, we_n, dq_oe;
    logic [1:0] ba, dqm;
    logic [12:0] a;
    logic [15:0] dq_o, dq_i;

    `DESIGN system (
        .clk(clk), .rst(rst), .rx(rx), .tx(tx),
        .sdram_cke(cke), .sdram_cs_n(cs_n), .sdram_ras_n(ras_n), .sdram_cas_n(cas_n),
        .sdram_we_n(we_n), .sdram_ba(ba), .sdram_a(a), .sdram_dqm(dqm),
        .sdram_dq_o(dq_o), .sdram_dq_oe(dq_oe), .sdram_dq_i(dq_i)
    );

    sdram_model #(.CLOCK_PS(`CLOCK_PS)) memory (
        .clk(~clk), .cke(cke), .cs_n(cs_n), .ras_n(ras_n), .cas_n(cas_n), .we_n(we_n),
        .ba(ba), .a(a), .dqm(dqm), .dq_i(dq_o), .dq_oe(dq_oe), .dq_o(dq_i),
        .violations(violations), .first_violation(first_violation), .refreshes()
    );
endmodule
