# frozen_string_literal: true

# bin/setup on machines that lack things: with stand-ins for what looks at the system and changes it.
RSpec.describe "bin/setup" do
  # Runs set_up_packages where the PATH holds the plain tools, the programs given and the stand-ins (name => script).
  # A stand-in's calls are written down by "log".
  def set_up(groups: "", programs: [], stand_ins: {}, lists: true, before: ":")
    tools = links(%w[bash env dirname sort head sed grep tr cat touch] + programs)
    no_home = { "CARGO_HOME" => "/nowhere", "HOME" => "/nowhere" }
    run_ruby(<<~RUBY, library: nil, deadline: 20, args: [ROOT, groups, before], env: no_home)
      Dir.mkdir("bin")
      #{tools}.each { |name, path| File.symlink(path, "bin/\#{name}") if path }
      #{stand_ins}.each do |name, script|
        File.delete("bin/\#{name}") if File.exist?("bin/\#{name}")
        File.write("bin/\#{name}", "#!/usr/bin/env bash\\necho \#{name} \\"$@\\" >>\#{Dir.pwd}/log\\n\#{script}\\n")
        File.chmod(0o755, "bin/\#{name}")
      end
      root, groups, before = ARGV
      script = ". \#{root}/bin/setup; has_package_lists() { #{lists}; }; \#{before}; set_up_packages \#{groups}"
      system({ "PATH" => "\#{Dir.pwd}/bin" }, "bin/bash", "-c", script)
      puts "status \#{$?.exitstatus}", (File.read("log") if File.exist?("log"))
    RUBY
  end

  def links(names)
    folders = ENV["PATH"].split(":")
    names.to_h { |name| [name, folders.map { |dir| "#{dir}/#{name}" }.find { |path| File.exist?(path) }] }
  end

  let(:ours) { ["ruby", "cc", "c++", "make", "pkg-config"] }
  let(:cargo) { { "cargo" => 'case $1 in --version) echo "cargo 1.85.0 (x)" ;; esac' } }
  let(:root_user) { { "id" => "echo 0" } }

  def calls(result, name)
    result.out.lines(chomp: true).grep(/\A#{name} /)
  end

  it "does nothing where all is there" do
    result = set_up(programs: ours, stand_ins: { **cargo, **root_user, "apt-get" => "" })
    expect(result.out).to match(/^status 0$/), result.inspect
    expect(calls(result, "apt-get")).to be_empty
  end

  it "installs all that is missing in one call" do
    result = set_up(programs: ["ruby"], groups: "test bench", stand_ins: { **cargo, **root_user, "apt-get" => "exit 0" })
    installs = calls(result, "apt-get").grep(/ install /)
    expect(installs.size).to eq(1), result.inspect
    expect(installs.first.split).to include("gcc", "libc6-dev", "g++", "make", "pkg-config", "libssl-dev")
    expect(installs.first.split).not_to include("ruby", "cargo")
    expect(result.out).to match(/^status 0$/)
  end

  # What stands in a system's folder llvm-14/lib => whether libclang-dev is missing.
  { ["libclang-cpp.so.14"] => true, ["libclang.so.1"] => true,
    ["libclang.so.1", "clang/14.0.6/include/stddef.h"] => false }.each do |files, missing|
    it "#{missing ? 'installs' : 'does not install'} libclang-dev where #{files.join(' and ')} is there" do
      before = ["libclang_folders=$PWD/llvm-14/lib", "unset LIBCLANG_PATH",
                *files.map { |file| "mkdir -p llvm-14/lib/#{File.dirname(file)}; touch llvm-14/lib/#{file}" }].join(";")
      stand_ins = { **cargo, **root_user, "apt-get" => "exit 0" }
      result = set_up(programs: [*ours, "mkdir"], stand_ins: stand_ins, before: before)
      expect(result.out).to match(/^status 0$/), result.inspect
      expect(calls(result, "apt-get").grep(/ install .*libclang-dev/).any?).to be(missing), result.inspect
    end
  end

  it "fetches package lists first where there are none" do
    stand_ins = { **cargo, **root_user, "apt-get" => "exit 0" }
    result = set_up(programs: ours - ["make"], stand_ins: stand_ins, lists: false)
    expect(calls(result, "apt-get")).to contain_exactly(match(/ update$/), match(/ install .* make$/))
  end

  it "fetches package lists again where apt-get cannot install with those that it has" do
    stand_ins = { **cargo, **root_user, "apt-get" => '[[ "$*" == *update* ]] && touch fresh; [[ -e fresh ]]' }
    result = set_up(programs: ours - ["make"], stand_ins: stand_ins)
    expect(calls(result, "apt-get").map { |call| call[/install|update/] }).to eq(%w[install update install])
    expect(result.out).to match(/^status 0$/)
  end

  it "goes through sudo where it is not root" do
    result = set_up(programs: ours - ["make"], stand_ins: { **cargo, "id" => "echo 1000", "apt-get" => "exit 0",
                                                            "sudo" => 'exec "$@"' })
    expect(calls(result, "sudo").grep(/apt-get.* install .* make$/).size).to eq(1), result.inspect
  end

  it "names the packages where it may not install them" do
    result = set_up(programs: ours - ["make"], stand_ins: { **cargo, "id" => "echo 1000", "apt-get" => "exit 0" })
    expect(result.err).to match(/install them as root: apt-get install make$/)
    expect(result.out).to match(/^status 1$/)
  end

  it "names what is missing on a system without apt" do
    result = set_up(programs: ours - ["make", "c++"], stand_ins: cargo)
    expect(result.err).to match(/names are Debian's, please install your system's: g\+\+ make$/)
    expect(result.out).to match(/^status 1$/)
  end

  it "shows what apt-get said when it fails" do
    stand_ins = { **cargo, **root_user, "apt-get" => "echo no such host; exit 100" }
    result = set_up(programs: ours - ["make"], stand_ins: stand_ins)
    expect(result.err).to match(/no such host/).and match(/could not install these packages: make/)
    expect(result.out).to match(/^status 1$/)
  end

  it "says what to do about a Rust that is too old" do
    result = set_up(programs: ours, stand_ins: { "cargo" => "echo cargo 1.63.0" })
    expect(result.err).to match(/cargo 1\.63\.0 is too old: 1\.85 or newer is needed/).and match(/rustup update stable/)
    expect(result.out).to match(/^status 1$/)
  end

  it "says what to do about a missing Rust that apt does not have, and installs nothing first" do
    stand_ins = { **root_user, "apt-get" => "", "apt-cache" => "echo '  Candidate: 0.66.0+ds1-1'" }
    result = set_up(programs: ours - ["make"], stand_ins: stand_ins)
    expect(result.err).to match(%r{Rust is missing \(cargo 1\.85 or newer\)\. Install it from https://rustup\.rs})
    expect(result.out).to match(/^status 1$/)
    expect(calls(result, "apt-get")).to be_empty
  end
end
