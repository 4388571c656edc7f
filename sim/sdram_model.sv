// Behavioural model of a 16-bit single data rate SDRAM that checks what its controller does.
//
// Four banks; bursts of eight words, sequential, CAS latency 2 or 3. Inputs are sampled at the rising
// edge of clk; word i of a read may be sampled at the edge CAS latency + i after the READ's. No delays:
// times of the data sheet are parameters in ps (long ones in ns) that are compared with counted clock
// periods. Every violation is counted and its code kept (the first one) and printed; the access is
// then carried out as well as it can be.
//
// Not modelled, reported as UNSUPPORTED when used: other bursts, cutting a burst short, auto precharge,
// burst terminate, power down, self refresh.

module sdram_model #(
    parameter int ROW_BITS = 13,
    parameter int COLUMN_BITS = 9,
    parameter int CLOCK_PS = 20_000,
    parameter int T_CK2_PS = 10_000,       // shortest clock period with CAS latency 2
    parameter int T_CK3_PS = 7_500,        // and 3
    parameter int T_RCD_PS = 20_000,       // ACTIVE to READ or WRITE
    parameter int T_RP_PS = 20_000,        // PRECHARGE to ACTIVE, REFRESH, MODE
    parameter int T_RAS_PS = 44_000,       // ACTIVE to PRECHARGE
    parameter int T_RAS_MAX_NS = 100_000,
    parameter int T_RC_PS = 66_000,        // ACTIVE to ACTIVE, same bank
    parameter int T_RRD_PS = 15_000,       // ACTIVE to ACTIVE, other bank
    parameter int T_WR_PS = 15_000,        // last word written to PRECHARGE (tDPL)
    parameter int T_RFC_PS = 66_000,       // REFRESH to ACTIVE, REFRESH, MODE
    parameter int T_MRD_PS = 0,            // MODE to any command
    parameter int MRD_CLOCKS = 2,
    parameter int POWER_UP_NS = 200_000,   // pause before the first command
    parameter int INITIAL_REFRESHES = 2,   // between precharge all and the first access
    parameter int T_REF_NS = 64_000_000,   // every row is refreshed once in this time
    parameter int MAX_POSTPONED = 9        // refreshes that may be missing against an even rate
) (
    input  logic        clk,
    input  logic        cke,
    input  logic        cs_n,
    input  logic        ras_n,
    input  logic        cas_n,
    input  logic        we_n,
    input  logic [1:0]  ba,
    input  logic [12:0] a,
    input  logic [1:0]  dqm,
    input  logic [15:0] dq_i,   // from the controller, while dq_oe
    input  logic        dq_oe,
    output logic [15:0] dq_o,   // to the controller
    output logic [31:0] violations,
    output logic [7:0]  first_violation,
    output logic [7:0]  last_violation,
    output logic [31:0] refreshes,
    output logic [31:0] bursts  // reads and writes
);
    localparam int ROWS = 1 << ROW_BITS;

    // Codes of first_violation.
    localparam byte unsigned POWER_UP = 1;       // command in the power-up pause
    localparam byte unsigned NOT_READY = 2;      // access or MODE before initialisation was complete
    localparam byte unsigned MODE_BANKS = 3;     // MODE while a bank is open
    localparam byte unsigned T_MRD = 4;
    localparam byte unsigned BANK_OPEN = 5;      // ACTIVE of an open bank
    localparam byte unsigned BANK_CLOSED = 6;    // READ or WRITE to a closed bank
    localparam byte unsigned T_RCD = 7;
    localparam byte unsigned T_RP = 8;
    localparam byte unsigned T_RAS = 9;
    localparam byte unsigned T_RAS_MAX = 10;
    localparam byte unsigned T_RC = 11;
    localparam byte unsigned T_RRD = 12;
    localparam byte unsigned T_WR = 13;
    localparam byte unsigned T_RFC = 14;
    localparam byte unsigned REFRESH_BANKS = 15; // REFRESH while a bank is open
    localparam byte unsigned T_REF = 16;         // a row was not refreshed for too long
    localparam byte unsigned REFRESH_RATE = 17;  // too many refreshes missing
    localparam byte unsigned CONTENTION = 18;    // both sides drive dq, or no cycle in between
    localparam byte unsigned UNDRIVEN = 19;      // a word to be written is not driven
    localparam byte unsigned T_CK = 20;          // clock too fast for the CAS latency
    localparam byte unsigned UNSUPPORTED = 21;

    localparam bit [2:0] CMD_MODE = 3'b000, CMD_REFRESH = 3'b001, CMD_PRECHARGE = 3'b010,
        CMD_ACTIVE = 3'b011, CMD_WRITE = 3'b100, CMD_READ = 3'b101, CMD_NOP = 3'b111;

    // Indexed by row, bank, column, from the top: for a controller that maps addresses so, by words.
    logic [15:0] mem [0:(4 << (ROW_BITS + COLUMN_BITS)) - 1] /* verilator public_flat_rw */;

    longint now = 0;                       // clock edges since power-up
    localparam longint NEVER = -(64'sd1 << 40);

    logic [ROW_BITS-1:0] open_row [4];
    logic [3:0] is_open = '0;
    longint active_at [4] = '{4{NEVER}};
    longint precharge_at [4] = '{4{NEVER}};
    longint written_at [4] = '{4{NEVER}};  // edge of the last word written
    longint any_active_at = NEVER;
    int     any_active_bank = 0;
    longint refresh_at = NEVER;
    longint mode_at = NEVER;

    logic precharged_all = 0;
    int   initial_refreshes = 0;
    logic mode_set = 0;
    int   cas_latency = 3;

    longint row_refreshed_at [ROWS];       // of the row that is the i-th to be refreshed
    int     next_row = 0;
    longint debt_from = 0;                 // edge from which refreshes are counted
    longint counted_refreshes = 0;
    logic   rate_reported = 0, age_reported = 0;

    // Bursts: words left, of the one being written and of the one being read.
    int     write_left = 0;
    logic [1:0] write_bank;
    logic [ROW_BITS-1:0] write_row;
    logic [COLUMN_BITS-1:0] write_column;
    logic [1:0] read_bank;
    logic [ROW_BITS-1:0] read_row;
    logic [COLUMN_BITS-1:0] read_column;
    longint read_from = NEVER;             // edge at which the first word is sampled
    longint burst_end = NEVER;             // edge before the next command may cut the burst off
    logic [1:0] burst_bank;
    longint read_end [2] = '{2{NEVER}};    // edges at which the last words of two reads are sampled
    longint read_begin [2] = '{2{NEVER}};
    logic [1:0] dqm_before;

    initial begin
        violations = 0;
        first_violation = 0;
        last_violation = 0;
        refreshes = 0;
        bursts = 0;
        dq_o = 16'hdead;
        for (int i = 0; i < ROWS; i++) row_refreshed_at[i] = 0;
    end

    function automatic void report(input byte unsigned code, input string what);
        if (violations == 0) first_violation = code;
        last_violation = code;
        violations = violations + 1;
        if (violations <= 20)
            $display("sdram_model: violation %0d at edge %0d: %s", code, now, what);
    endfunction

    // Whether edges since `from` last shorter than a time.
    function automatic logic sooner(input longint from, input int ps);
        return (now - from) * longint'(CLOCK_PS) < longint'(ps);
    endfunction

    function automatic int index(
        input logic [ROW_BITS-1:0] row, input logic [1:0] bank, input logic [COLUMN_BITS-1:0] column
    );
        return {{(32 - ROW_BITS - 2 - COLUMN_BITS) {1'b0}}, row, bank, column};
    endfunction

    function automatic logic [COLUMN_BITS-1:0] word_of(
        input logic [COLUMN_BITS-1:0] column, input int i
    );
        return {column[COLUMN_BITS-1:3], column[2:0] + i[2:0]};
    endfunction

    function automatic void check_precharge(input int bank);
        if (is_open[bank]) begin
            if (sooner(active_at[bank], T_RAS_PS)) report(T_RAS, "tRAS");
            if (sooner(written_at[bank], T_WR_PS)) report(T_WR, "tWR");
            if (now <= burst_end && burst_bank == 2'(bank))
                report(UNSUPPORTED, "precharge cuts a burst short");
            precharge_at[bank] = now;
        end
        is_open[bank] = 0;
    endfunction

    function automatic void check_all_closed(input byte unsigned code, input string what);
        if (is_open != 0) report(code, what);
        for (int bank = 0; bank < 4; bank++)
            if (sooner(precharge_at[bank], T_RP_PS)) report(T_RP, "tRP");
        if (sooner(refresh_at, T_RFC_PS)) report(T_RFC, "tRFC");
    endfunction

    task automatic execute(input logic [2:0] command);
        if (now * longint'(CLOCK_PS) < longint'(POWER_UP_NS) * 1000)
            report(POWER_UP, "command in the power-up pause");
        if (sooner(mode_at, T_MRD_PS) || now - mode_at < longint'(MRD_CLOCKS)) report(T_MRD, "tMRD");
        case (command)
            CMD_MODE: begin
                if (!precharged_all) report(NOT_READY, "mode set before precharge all");
                check_all_closed(MODE_BANKS, "mode set while a bank is open");
                cas_latency = int'(a[6:4]);
                if (a[3:0] != 4'b0011 || a[12:7] != 0 || ba != 0 || (a[6:4] != 2 && a[6:4] != 3))
                    report(UNSUPPORTED, "mode register");
                if (CLOCK_PS < (a[6:4] == 2 ? T_CK2_PS : T_CK3_PS))
                    report(T_CK, "clock too fast for the CAS latency");
                // From here on contents count.
                if (!mode_set) for (int i = 0; i < ROWS; i++) row_refreshed_at[i] = now;
                mode_set = 1;
                mode_at = now;
            end
            CMD_REFRESH: begin
                if (!precharged_all) report(NOT_READY, "refresh before precharge all");
                check_all_closed(REFRESH_BANKS, "refresh while a bank is open");
                row_refreshed_at[next_row] = now;
                next_row = (next_row + 1) % ROWS;
                initial_refreshes++;
                refreshes = refreshes + 1;
                refresh_at = now;
            end
            CMD_PRECHARGE: begin
                if (a[10]) begin
                    for (int bank = 0; bank < 4; bank++) check_precharge(bank);
                    // The first one also closes what power-up may have left open.
                    if (!precharged_all) precharge_at = '{4{now}};
                    precharged_all = 1;
                end else check_precharge(int'(ba));
            end
            CMD_ACTIVE: begin
                if (is_open[ba]) report(BANK_OPEN, "active of an open bank");
                if (sooner(precharge_at[ba], T_RP_PS)) report(T_RP, "tRP");
                if (sooner(active_at[ba], T_RC_PS)) report(T_RC, "tRC");
                if (any_active_bank != int'(ba) && sooner(any_active_at, T_RRD_PS))
                    report(T_RRD, "tRRD");
                if (sooner(refresh_at, T_RFC_PS)) report(T_RFC, "tRFC");
                if (!mode_set || initial_refreshes < INITIAL_REFRESHES)
                    report(NOT_READY, "active before initialisation");
                is_open[ba] = 1;
                open_row[ba] = a[ROW_BITS-1:0];
                active_at[ba] = now;
                any_active_at = now;
                any_active_bank = int'(ba);
            end
            CMD_READ, CMD_WRITE: begin
                if (!mode_set || initial_refreshes < INITIAL_REFRESHES)
                    report(NOT_READY, "access before initialisation");
                if (!is_open[ba]) report(BANK_CLOSED, "access to a closed bank");
                else if (sooner(active_at[ba], T_RCD_PS)) report(T_RCD, "tRCD");
                if (a[10]) report(UNSUPPORTED, "auto precharge");
                if (now <= burst_end) report(UNSUPPORTED, "access cuts a burst short");
                burst_end = now + 7;
                burst_bank = ba;
                bursts = bursts + 1;
                if (command == CMD_READ) begin
                    read_begin[0] = read_begin[1];
                    read_end[0] = read_end[1];
                    read_begin[1] = now + longint'(cas_latency);
                    read_end[1] = now + longint'(cas_latency) + 7;
                    queue_read();
                end else begin
                    write_left = 8;
                    write_bank = ba;
                    write_row = open_row[ba];
                    write_column = a[COLUMN_BITS-1:0];
                end
            end
            default: report(UNSUPPORTED, "burst terminate");
        endcase
    endtask

    // Reads overlap by the CAS latency, so the words of a read are fetched with its command.
    logic [15:0] pipe [0:15];
    task automatic queue_read();
        read_bank = ba;
        read_row = open_row[ba];
        read_column = a[COLUMN_BITS-1:0];
        read_from = now + longint'(cas_latency);
        for (int i = 0; i < 8; i++)
            pipe[4'((read_from + longint'(i)) % 16)] =
                mem[index(read_row, read_bank, word_of(read_column, i))];
    endtask

    // Whether the model drives dq in the cycle that ends at an edge.
    function automatic logic driven_at(input longint edge_number);
        return (edge_number >= read_begin[0] && edge_number <= read_end[0])
            || (edge_number >= read_begin[1] && edge_number <= read_end[1]);
    endfunction

    task automatic write_word();
        if (!dq_oe && dqm != 2'b11) report(UNDRIVEN, "write data is not driven");
        if (!dqm[0]) mem[index(write_row, write_bank, write_column)][7:0] = dq_i[7:0];
        if (!dqm[1]) mem[index(write_row, write_bank, write_column)][15:8] = dq_i[15:8];
        write_column = word_of(write_column, 1);
        written_at[write_bank] = now;
        write_left--;
    endtask

    always @(posedge clk) begin
        if (!cke) begin
            if (now * longint'(CLOCK_PS) >= longint'(POWER_UP_NS) * 1000)
                report(UNSUPPORTED, "power down");
        end else if (!cs_n && {ras_n, cas_n, we_n} != CMD_NOP) execute({ras_n, cas_n, we_n});

        if (write_left != 0) write_word();

        // The pins are released up to a cycle after the last word.
        if (dq_oe && (driven_at(now) || driven_at(now - 1))) report(CONTENTION, "contention on dq");

        for (int bank = 0; bank < 4; bank++)
            if (is_open[bank] && (now - active_at[bank]) * longint'(CLOCK_PS) > longint'(T_RAS_MAX_NS) * 1000)
            begin
                report(T_RAS_MAX, "tRAS max");
                active_at[bank] = now;
            end

        // Rows are refreshed in order, so the next one is the one that waits longest.
        if (!mode_set) begin
            debt_from = now;
            counted_refreshes = longint'(refreshes);
        end else begin
            if ((now - row_refreshed_at[next_row]) * longint'(CLOCK_PS) > longint'(T_REF_NS) * 1000) begin
                if (!age_reported) report(T_REF, "a row was not refreshed in time");
                age_reported = 1;
            end else age_reported = 0;
            if ((longint'(refreshes) - counted_refreshes + longint'(MAX_POSTPONED)) * (longint'(T_REF_NS) * 1000 >> ROW_BITS)
                < (now - debt_from) * longint'(CLOCK_PS)) begin
                if (!rate_reported) report(REFRESH_RATE, "too few refreshes");
                rate_reported = 1;
            end else rate_reported = 0;
        end

        // A masked byte, two edges earlier, is not driven; whatever is not driven is garbage.
        if (driven_at(now + 1)) begin
            dq_o <= pipe[4'((now + 1) % 16)];
            if (dqm_before[0]) dq_o[7:0] <= 8'hde;
            if (dqm_before[1]) dq_o[15:8] <= 8'had;
        end else dq_o <= 16'hdead ^ {now[7:0], now[7:0]};
        dqm_before = dqm;
        now++;
    end
endmodule
