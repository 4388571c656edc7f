// A core's ports around a copier, to test the harness with: it reads bursts through one read port,
// passes the beats straight to the write port, and measures memory as it goes.
//
// Registers: 00 ID, 04 SCRATCH, 08 SOURCE, 0c TARGET, 10 BURSTS, 14 BEATS of each, 18 MODE, 1c START,
// 20 STATUS (worst rresp, bresp), 24 cycles from a read address to its first beat, 28 cycles from the
// first to the last read beat, 2c most bursts open, 30 longest gap between two beats, 34 cycles from
// the last write beat to its response, 38 read beats taken. Writing STATUS clears the interrupt;
// registers from 800 on answer SLVERR, from c00 on nothing.
// MODE: 1:0 read port, 2 read only, 3 never ready for a beat, 7:4 the rule to break.
module stand_in (
    input aclk, input aresetn, output reg irq,
    input [11:0] s_axi_ctrl_awaddr, input [2:0] s_axi_ctrl_awprot, input s_axi_ctrl_awvalid,
    output s_axi_ctrl_awready, input [31:0] s_axi_ctrl_wdata, input [3:0] s_axi_ctrl_wstrb,
    input s_axi_ctrl_wvalid, output s_axi_ctrl_wready, output reg [1:0] s_axi_ctrl_bresp,
    output reg s_axi_ctrl_bvalid, input s_axi_ctrl_bready, input [11:0] s_axi_ctrl_araddr,
    input [2:0] s_axi_ctrl_arprot, input s_axi_ctrl_arvalid, output s_axi_ctrl_arready,
    output reg [31:0] s_axi_ctrl_rdata, output reg [1:0] s_axi_ctrl_rresp,
    output reg s_axi_ctrl_rvalid, input s_axi_ctrl_rready,
`define READ_PORT(NAME) \
    output m_axi_``NAME``_arid, output [31:0] m_axi_``NAME``_araddr, \
    output [7:0] m_axi_``NAME``_arlen, output [2:0] m_axi_``NAME``_arsize, \
    output [1:0] m_axi_``NAME``_arburst, output m_axi_``NAME``_arlock, \
    output [3:0] m_axi_``NAME``_arcache, output [2:0] m_axi_``NAME``_arprot, \
    output [3:0] m_axi_``NAME``_arqos, output m_axi_``NAME``_arvalid, \
    input m_axi_``NAME``_arready, input m_axi_``NAME``_rid, input [127:0] m_axi_``NAME``_rdata, \
    input [1:0] m_axi_``NAME``_rresp, input m_axi_``NAME``_rlast, input m_axi_``NAME``_rvalid, \
    output m_axi_``NAME``_rready,
    `READ_PORT(stationary)
    `READ_PORT(stream)
    `READ_PORT(side)
    output m_axi_write_awid, output [31:0] m_axi_write_awaddr, output [7:0] m_axi_write_awlen,
    output [2:0] m_axi_write_awsize, output [1:0] m_axi_write_awburst, output m_axi_write_awlock,
    output [3:0] m_axi_write_awcache, output [2:0] m_axi_write_awprot,
    output [3:0] m_axi_write_awqos, output m_axi_write_awvalid, input m_axi_write_awready,
    output [127:0] m_axi_write_wdata, output [15:0] m_axi_write_wstrb, output m_axi_write_wlast,
    output m_axi_write_wvalid, input m_axi_write_wready, input m_axi_write_bid,
    input [1:0] m_axi_write_bresp, input m_axi_write_bvalid, output m_axi_write_bready
);
    reg [31:0] scratch, source, target, bursts, mode;
    reg [7:0] beats;
    wire [1:0] port = mode[1:0];
    wire read_only = mode[2];
    wire deaf = mode[3];
    localparam ADDRESS_CHANGES = 1, VALID_FALLS = 2, NARROW = 3, FIXED = 4, EARLY_LAST = 5,
        DATA_CHANGES = 6, MISALIGNED = 7, EXCLUSIVE = 8, PARTIAL = 9, EARLY_ANSWER = 10;
    wire [3:0] rule = mode[7:4];

    // Control bus.
    reg aw_held, w_held;
    reg [11:0] aw_address;
    reg [31:0] w_data;
    assign s_axi_ctrl_awready = !aw_held;
    assign s_axi_ctrl_wready = !w_held;
    assign s_axi_ctrl_arready = !s_axi_ctrl_rvalid;
    wire write_now = aw_held && w_held && !s_axi_ctrl_bvalid && aw_address < 12'hc00;
    wire start = write_now && aw_address == 12'h01c;
    always @(posedge aclk) begin
        if (s_axi_ctrl_awvalid && s_axi_ctrl_awready) begin
            aw_held <= 1;
            aw_address <= s_axi_ctrl_awaddr;
        end
        if (s_axi_ctrl_wvalid && s_axi_ctrl_wready) begin
            w_held <= 1;
            w_data <= s_axi_ctrl_wdata;
        end
        if (s_axi_ctrl_bvalid && s_axi_ctrl_bready) s_axi_ctrl_bvalid <= 0;
        if (rule == EARLY_ANSWER && s_axi_ctrl_awvalid) s_axi_ctrl_bvalid <= 1;
        if (write_now) begin
            aw_held <= 0;
            w_held <= 0;
            s_axi_ctrl_bvalid <= 1;
            s_axi_ctrl_bresp <= aw_address >= 12'h800 ? 2 : 0;
            case (aw_address)
                12'h004: scratch <= w_data;
                12'h008: source <= w_data;
                12'h00c: target <= w_data;
                12'h010: bursts <= w_data;
                12'h014: beats <= w_data - 1;
                12'h018: mode <= w_data;
            endcase
        end
        if (s_axi_ctrl_rvalid && s_axi_ctrl_rready) s_axi_ctrl_rvalid <= 0;
        if (s_axi_ctrl_arvalid && s_axi_ctrl_arready && s_axi_ctrl_araddr < 12'hc00) begin
            s_axi_ctrl_rvalid <= 1;
            s_axi_ctrl_rresp <= s_axi_ctrl_araddr >= 12'h800 ? 2 : 0;
            case (s_axi_ctrl_araddr)
                12'h000: s_axi_ctrl_rdata <= 32'h5354414e;
                12'h004: s_axi_ctrl_rdata <= scratch;
                12'h020: s_axi_ctrl_rdata <= {worst_b, worst_r};
                12'h024: s_axi_ctrl_rdata <= latency;
                12'h028: s_axi_ctrl_rdata <= last_beat - first_beat + 1;
                12'h02c: s_axi_ctrl_rdata <= most_open;
                12'h030: s_axi_ctrl_rdata <= longest_gap;
                12'h034: s_axi_ctrl_rdata <= write_latency;
                12'h038: s_axi_ctrl_rdata <= beats_taken;
                default: s_axi_ctrl_rdata <= 0;
            endcase
        end
        if (!aresetn) begin
            aw_held <= 0; w_held <= 0; s_axi_ctrl_bvalid <= 0; s_axi_ctrl_rvalid <= 0;
            scratch <= 0; mode <= 0; source <= 0; target <= 0; bursts <= 0; beats <= 0;
        end
    end

    // The read port in use.
    reg [31:0] ar_left, ar_address;
    reg ar_hidden, ar_moved;
    wire ar_valid = ar_left != 0 && !ar_hidden;
    wire ar_ready = port == 0 ? m_axi_stationary_arready
        : port == 1 ? m_axi_stream_arready : m_axi_side_arready;
    wire ar_fire = ar_valid && ar_ready;
    wire [127:0] r_data = port == 0 ? m_axi_stationary_rdata
        : port == 1 ? m_axi_stream_rdata : m_axi_side_rdata;
    wire [1:0] r_resp = port == 0 ? m_axi_stationary_rresp
        : port == 1 ? m_axi_stream_rresp : m_axi_side_rresp;
    wire r_last = port == 0 ? m_axi_stationary_rlast
        : port == 1 ? m_axi_stream_rlast : m_axi_side_rlast;
    wire r_valid = port == 0 ? m_axi_stationary_rvalid
        : port == 1 ? m_axi_stream_rvalid : m_axi_side_rvalid;
    // Straight from the write port, so that the harness must let such paths settle.
    wire r_ready = !deaf && (read_only || m_axi_write_wready);
    wire r_fire = r_valid && r_ready;
`define DRIVE(NAME, NUMBER) \
    assign m_axi_``NAME``_arid = ar_address[4]; \
    assign m_axi_``NAME``_araddr = ar_address + (rule == MISALIGNED ? 4 : 0) + (ar_moved ? 16 : 0); \
    assign m_axi_``NAME``_arlen = beats; \
    assign m_axi_``NAME``_arsize = rule == NARROW ? 2 : 4; \
    assign m_axi_``NAME``_arburst = rule == FIXED ? 0 : 1; \
    assign m_axi_``NAME``_arlock = rule == EXCLUSIVE; \
    assign m_axi_``NAME``_arcache = 3; \
    assign m_axi_``NAME``_arprot = 0; \
    assign m_axi_``NAME``_arqos = 0; \
    assign m_axi_``NAME``_arvalid = ar_valid && port == NUMBER; \
    assign m_axi_``NAME``_rready = r_ready && port == NUMBER;
    `DRIVE(stationary, 0)
    `DRIVE(stream, 1)
    `DRIVE(side, 2)

    // The write port.
    reg [31:0] aw_left, write_address, b_left;
    reg [7:0] w_beat;
    reg w_moved;
    assign m_axi_write_awid = 1;
    assign m_axi_write_awaddr = write_address;
    assign m_axi_write_awlen = beats;
    assign m_axi_write_awsize = 4;
    assign m_axi_write_awburst = 1;
    assign m_axi_write_awlock = 0;
    assign m_axi_write_awcache = 3;
    assign m_axi_write_awprot = 0;
    assign m_axi_write_awqos = 0;
    assign m_axi_write_awvalid = aw_left != 0;
    assign m_axi_write_wdata = r_data ^ w_moved;
    assign m_axi_write_wstrb = rule == PARTIAL ? 16'h00f1 : 16'hffff;
    assign m_axi_write_wlast = rule == EARLY_LAST ? w_beat == 1 : w_beat == beats;
    assign m_axi_write_wvalid = r_valid && !read_only;
    assign m_axi_write_bready = 1;
    wire w_fire = m_axi_write_wvalid && m_axi_write_wready;

    // Measurements and the end.
    reg [31:0] now, first_address, latency, first_beat, last_beat, most_open, open, longest_gap;
    reg [31:0] last_write, write_latency, r_left, beats_taken;
    reg any_address, any_beat, any_seen, busy;
    reg [1:0] worst_r, worst_b;
    always @(posedge aclk) begin
        now <= now + 1;
        ar_hidden <= rule == VALID_FALLS && ar_valid && !ar_ready;
        ar_moved <= rule == ADDRESS_CHANGES && ar_valid && !ar_ready;
        w_moved <= rule == DATA_CHANGES && m_axi_write_wvalid && !m_axi_write_wready;
        if (ar_fire) begin
            ar_left <= ar_left - 1;
            ar_address <= ar_address + {beats + 9'd1, 4'd0};
            if (!any_address) first_address <= now;
            any_address <= 1;
        end
        open <= open + ar_fire - (r_fire && r_last);
        if (open > most_open) most_open <= open;
        if (r_valid && !any_seen) begin
            latency <= now - first_address;
            any_seen <= 1;
        end
        if (r_fire) begin
            if (!any_beat) first_beat <= now;
            else if (now - last_beat - 1 > longest_gap) longest_gap <= now - last_beat - 1;
            any_beat <= 1;
            last_beat <= now;
            beats_taken <= beats_taken + 1;
            if (r_last) r_left <= r_left - 1;
            if (r_resp > worst_r) worst_r <= r_resp;
        end
        if (m_axi_write_awvalid && m_axi_write_awready) begin
            aw_left <= aw_left - 1;
            write_address <= write_address + {beats + 9'd1, 4'd0};
        end
        if (w_fire) begin
            w_beat <= m_axi_write_wlast ? 0 : w_beat + 1;
            if (m_axi_write_wlast) last_write <= now;
        end
        if (m_axi_write_bvalid) begin
            b_left <= b_left - 1;
            write_latency <= now - last_write;
            if (m_axi_write_bresp > worst_b) worst_b <= m_axi_write_bresp;
        end
        if (busy && r_left == 0 && b_left == 0) begin
            busy <= 0;
            irq <= 1;
        end
        if (write_now && aw_address == 12'h020) irq <= 0;
        if (start) begin
            busy <= 1; irq <= 0;
            ar_left <= bursts; r_left <= bursts; ar_address <= source;
            aw_left <= read_only ? 0 : bursts; b_left <= read_only ? 0 : bursts;
            write_address <= target; w_beat <= 0;
            any_address <= 0; any_beat <= 0; any_seen <= 0; most_open <= 0; longest_gap <= 0;
            beats_taken <= 0; worst_r <= 0; worst_b <= 0;
        end
        if (!aresetn) begin
            now <= 0; ar_left <= 0; aw_left <= 0; busy <= 0; irq <= 0; open <= 0;
            ar_hidden <= 0; ar_moved <= 0; w_moved <= 0;
        end
    end
endmodule
