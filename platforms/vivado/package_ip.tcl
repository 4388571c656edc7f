# Packages @core@ as an IP-XACT core:
#
#     vivado -mode batch -source package_ip.tcl
#
# The result is the folder ip/, to be added to a project's IP repositories (Settings > IP > Repository, or
# set_property ip_repo_paths). The block is then called "@display@".

proc fail {text} {
    puts "eftrain: error: $text"
    flush stdout
    exit 1
}

cd [file dirname [file normalize [info script]]]
set found [version -short]
if {![regexp {^(\d+\.\d+)} $found _ release] || [package vcompare $release @vivado@] < 0} {
    fail "Vivado $found is too old: @vivado@ or newer is needed."
}

create_project -force eftrain_ip vivado -part @part@
add_files {eftrain.v @core@.v}
add_files -fileset constrs_1 eftrain_ooc.xdc
set_property USED_IN {out_of_context synthesis implementation} [get_files eftrain_ooc.xdc]
set_property top eftrain [current_fileset]
update_compile_order -fileset sources_1

ipx::package_project -root_dir ip -vendor eftrain -library eftrain -taxonomy /UserIP -import_files -force
set ip [ipx::current_core]
set_property name @core@ $ip
set_property version @version@ $ip
set_property display_name "@display@" $ip
set_property description "@description@" $ip
set_property supported_families {@families@} $ip

# The interfaces follow from the names of the ports; make sure that none was missed.
foreach name {@buses@ aclk aresetn irq} {
    if {[llength [ipx::get_bus_interfaces $name -of_objects $ip]] != 1} {
        fail "the interface $name was not inferred."
    }
}
foreach name {@buses@} {
    ipx::associate_bus_interfaces -busif $name -clock aclk $ip
}
ipx::associate_bus_interfaces -clock aclk -reset aresetn $ip

ipx::create_xgui_files $ip
ipx::update_checksums $ip
if {![ipx::check_integrity $ip]} {
    fail "the packaged core is not consistent; see Vivado's messages above."
}
ipx::save_core $ip
puts "eftrain: packaged @core@ in [file join [pwd] ip]."
exit 0
