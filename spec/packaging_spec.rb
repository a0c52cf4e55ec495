# frozen_string_literal: true

require "open3"
require "rubygems/package"

# The gem as RubyGems packs, builds and installs it.
RSpec.describe "the gem" do
  let(:installed) { Gem::Specification.find_by_name("karafka_swarm") }

  def installed_file(path)
    File.join(installed.full_gem_path, path)
  end

  # RubyGems keeps the file that it installed.
  def packed
    File.join(installed.base_dir, "cache", "#{installed.full_name}.gem")
  end

  describe "installed" do
    it "needs no other gem" do
      expect(installed.runtime_dependencies).to be_empty
    end

    it "holds what its build needs and nothing of the rest" do
      files = Gem::Package.new(packed).contents
      expect(files).to include("Cargo.toml", "Cargo.lock", "LICENSE", "CHANGELOG.md", "ext/preflight/extconf.rb")
      expect(files).to include(*Dir["{ext,lib,sig}/**/*.{rb,rs,rbs}", "ext/*/Cargo.toml", base: ROOT])
      expect(files.grep(%r{\A(spec|bench|target|tmp|rakelib|bin|\.ci)/}) + files.grep(/\.so\z/)).to be_empty
    end

    it "loads from any folder" do
      result = run_ruby(<<~'RUBY', library: nil)
        Dir.chdir("/")
        require "swarm_native"
        puts $LOADED_FEATURES.grep(/(swarm_native|karafka_swarm)\.so\z/)
      RUBY
      expect(result).to be_success
      named_after_the_gem = Gem::Version.new(Gem::VERSION) < Gem::Version.new("3.4.6")
      expect(result.out.lines(chomp: true))
        .to contain_exactly(end_with(named_after_the_gem ? "/karafka_swarm.so" : "/swarm_native/swarm_native.so"))
    end

    it "loads under its own name as well" do
      expect(run_ruby("puts SwarmNative::VERSION", library: "karafka_swarm").out).to eq("#{installed.version}\n")
    end

    it "prints nothing when it is loaded with warnings on" do
      result = run_ruby("", ruby: ["-w"])
      expect(result.out + result.err).to eq("")
    end

    it "links the system's OpenSSL and besides only what every Rust program has" do
      library = run_ruby("puts $LOADED_FEATURES.grep(/(swarm_native|karafka_swarm)\\.so\\z/)").out.chomp
      needed, = Open3.capture2("readelf", "--dynamic", library)
      names = needed.scan(/\(NEEDED\).*\[([^.]+)/).flatten
      expect(names).to include("libssl", "libcrypto")
      # No libz, libzstd or librdkafka: those are inside.
      expect(names - %w[libssl libcrypto libc libm libgcc_s ld-linux-x86-64 ld-linux-aarch64 libruby-3]).to be_empty
    end
  end

  describe "the loader" do
    # A copy of the Ruby files beside whatever stands for the library.
    def load_with(files)
      run_ruby(<<~'RUBY', library: nil, args: [installed_file("lib/swarm_native"), *files])
        require "fileutils"
        FileUtils.cp_r(ARGV.shift, "swarm_native")
        FileUtils.rm_f("swarm_native/swarm_native.so")
        ARGV.each { |file| File.write(file, "no library") }
        # Alone on the load path, with RubyGems out of the way.
        $LOAD_PATH.reject! { |folder| folder.include?("karafka_swarm") }
        $LOAD_PATH.unshift(Dir.pwd)
        Kernel.define_method(:require) { |name| gem_original_require(name) }
        begin
          require "swarm_native/library"
        rescue LoadError => e
          puts e.message
        end
      RUBY
    end

    it "says so when the extension was not built" do
      expect(load_with([]).out).to match(/is not built: neither swarm_native.* nor karafka_swarm.so is there/)
    end

    it "raises the real error of a library that does not load, wherever it lies" do
      ["swarm_native/swarm_native.so", "karafka_swarm.so"].each do |file|
        result = load_with([file])
        expect(result.out).to include("#{file}: file too short").or include("#{file}: invalid ELF header")
      end
    end
  end

  describe "in a Gemfile" do
    it "is required by Bundler itself" do
      result = run_ruby(<<~RUBY, library: nil, env: { "BUNDLE_GEMFILE" => nil })
        File.write("Gemfile", 'gem "karafka_swarm"')
        require "bundler"
        Bundler.setup
        Bundler.require
        puts SwarmNative::Supervisor
      RUBY
      expect(result.out).to end_with("SwarmNative::Supervisor\n"), result.inspect
    end

    it "is resolved by bundle install" do
      result = run_ruby(<<~RUBY, library: nil, deadline: 60, env: { "BUNDLE_GEMFILE" => nil })
        File.write("Gemfile", <<~GEMFILE)
          source "https://gems.invalid"
          gem "karafka_swarm"
        GEMFILE
        require "bundler"
        require "bundler/cli"
        Bundler::CLI.start(%w[install --local])
        puts File.read("Gemfile.lock")
      RUBY
      expect(result.out).to match(/^    karafka_swarm \(#{Regexp.escape(installed.version.to_s)}\)$/), result.inspect
    end
  end

  describe "the build, before it starts," do
    let(:preflight) { installed_file("ext/preflight/preflight.rb") }

    # What it says on a PATH that holds just these programs.
    def refusal(programs: [], env: {}, new: "")
      folders = ENV["PATH"].split(":")
      links = programs.to_h { |name| [name, folders.map { |dir| "#{dir}/#{name}" }.find { |path| File.exist?(path) }] }
      run_ruby(<<~RUBY, library: nil, args: [preflight], env: env)
        Dir.mkdir("bin")
        #{links}.each { |name, path| File.symlink(path, "bin/\#{name}") if path }
        ENV["PATH"] = File.expand_path("bin")
        #{yield if block_given?}
        require ARGV.first
        puts Preflight.new(#{new}).refusal
      RUBY
    end

    # A program that answers `--version` (or anything else) with this.
    def stand_in(name, output)
      <<~RUBY
        File.delete("bin/#{name}") if File.symlink?("bin/#{name}")
        File.write("bin/#{name}", "#!/bin/sh\\n#{output}\\n")
        File.chmod(0o755, "bin/#{name}")
      RUBY
    end

    let(:linker) { RbConfig.expand(RbConfig::MAKEFILE_CONFIG["CC"].dup).split.first }
    let(:all) { ["bash", "cc", "c++", "make", "cargo", "rustc", "pkg-config", "as", "sh", linker] }
    let(:no_home) { { "HOME" => "/nowhere", "SUDO_USER" => nil } }

    it "finds nothing to say where all is there" do
      expect(refusal(programs: all).out).to eq("\n")
    end

    it "names all that is missing at once, each with its Debian package" do
      lines = refusal(env: no_home).out.lines(chomp: true)
      expect(lines.first).to eq("karafka_swarm cannot be built here. What is missing:")
      expect(lines).to include(
        match(/C compiler, "cc" \(Debian package gcc\)/), match(/C\+\+ compiler.*\(Debian package g\+\+\)/),
        match(/make \(Debian package make\)/), match(/cargo 1\.85 or newer/),
        match(/pkg-config \(Debian package pkg-config\)/), match(/OpenSSL's headers \(Debian package libssl-dev\)/)
      )
      expect(lines.last).to match(/\AOn Debian and Ubuntu: apt-get install gcc .*libssl-dev/)
    end

    it "names the one thing that is missing" do
      { "make" => /make \(Debian package make\)/, "c++" => /g\+\+/, "cargo" => /cargo 1\.85/,
        "pkg-config" => /Debian package pkg-config/ }.each do |name, words|
        result = refusal(programs: all - [name], env: name == "cargo" ? no_home : {})
        expect(result.out.lines.grep(/^  - /)).to contain_exactly(match(words)), result.inspect
      end
    end

    it "names libssl-dev where pkg-config does not know openssl" do
      lines = refusal(programs: all, env: { "PKG_CONFIG_LIBDIR" => "/nowhere" }).out.lines.grep(/^  - /)
      expect(lines).to contain_exactly(match(/libssl-dev/))
    end

    it "does not ask for OpenSSL where Kafka is left out" do
      result = refusal(programs: all, env: { "PKG_CONFIG_LIBDIR" => "/nowhere", "SWARM_NATIVE_FEATURES" => "none" })
      expect(result.out).to eq("\n")
    end

    it "asks for Kerberos only where it is wanted" do
      result = refusal(programs: all, env: { "PKG_CONFIG_LIBDIR" => "/nowhere", "SWARM_NATIVE_FEATURES" => "gssapi" })
      expect(result.out.lines.grep(/^  - /)).to contain_exactly(match(/libssl-dev/), match(/libsasl2-dev/))
    end

    it "asks for libcurl only where tokens of an OpenID Connect provider are wanted" do
      result = refusal(programs: all, env: { "PKG_CONFIG_LIBDIR" => "/nowhere", "SWARM_NATIVE_FEATURES" => "oidc,gssapi" })
      expect(result.out.lines.grep(/^  - /))
        .to contain_exactly(match(/libssl-dev/), match(/libsasl2-dev/), match(/libcurl4-openssl-dev/))
    end

    it "refuses a cargo that is too old, and says what it found" do
      result = refusal(programs: all) { stand_in("cargo", "echo cargo 1.63.0") }
      expect(result.out).to match(/cargo 1\.85 or newer; "cargo" is 1\.63\.0/)
    end

    it "refuses a cargo that does not run" do
      result = refusal(programs: all) { stand_in("cargo", "exit 1") }
      expect(result.out).to match(/a cargo that works/)
    end

    it "points at rustup's cargo that is not on the PATH" do
      result = refusal(programs: all - ["cargo"]) do
        <<~RUBY
          require "fileutils"
          ENV["HOME"] = Dir.pwd
          FileUtils.mkdir_p(".cargo/bin")
          File.write(".cargo/bin/cargo", "")
          File.chmod(0o755, ".cargo/bin/cargo")
        RUBY
      end
      expect(result.out).to match(%r{/\.cargo/bin/cargo is not on it \(with sudo})
    end

    it "stops with one sentence on another system and another Ruby" do
      expect(refusal(new: 'platform: "arm64-darwin23"').out)
        .to match(/\Akarafka_swarm runs on Linux only, .*; this Ruby is for arm64-darwin23\.\n\z/)
      expect(refusal(new: 'engine: "jruby"').out).to match(/\Akarafka_swarm needs CRuby, .*; this is jruby\.\n\z/)
    end

    it "refuses a feature that there is not, naming it and those that there are" do
      expect(refusal(programs: all, env: { "SWARM_NATIVE_FEATURES" => "kafak" }).out)
        .to match(/SWARM_NATIVE_FEATURES holds kafak; allowed are kafka, gssapi, oidc, or none/)
    end

    it "ends gem install with that message" do
      result = run_ruby(<<~'RUBY', library: nil, args: [packed], env: no_home)
        require "rubygems/installer"
        ENV["PATH"] = "/nowhere"
        begin
          Gem::Installer.at(ARGV.first, install_dir: "home", force: true, document: []).install
        rescue Gem::Ext::BuildError => e
          puts e.message
        end
      RUBY
      expect(result.out).to match(/cannot be built here. What is missing:/), result.inspect
      expect(result.out.lines.size).to be < 25
    end
  end

  describe "the build, after its end," do
    # The folders as RubyGems 3.3 leaves them.
    def tidy(before: "")
      run_ruby(<<~RUBY, library: nil, args: [installed_file("ext/tidy")])
        require "fileutils"
        gem = "home/gems/karafka_swarm-1.0.0"
        FileUtils.mkdir_p(["\#{gem}/lib", "\#{gem}/ext", "elsewhere/deps"])
        FileUtils.cp_r(ARGV.first, "\#{gem}/ext/tidy")
        File.write("\#{gem}/lib/karafka_swarm.so", "")
        folder = "home/extensions/\#{Gem::Platform.local}/\#{Gem.extension_api_version}/karafka_swarm-1.0.0"
        FileUtils.mkdir_p(%w[build deps .fingerprint].map { |name| "\#{folder}/release/\#{name}" })
        File.write("\#{folder}/release/karafka_swarm.so", "")
        #{before}
        Dir.chdir("\#{gem}/ext/tidy") { system(Gem.ruby, "extconf.rb", exception: true) }
        puts Dir.glob("{elsewhere,home/extensions}/**/*", File::FNM_DOTMATCH).map { |path| File.basename(path) }
      RUBY
    end

    it "leaves no build folder among the extensions" do
      names = tidy.out.split
      expect(names).to include("karafka_swarm.so")
      expect(names & %w[build .fingerprint]).to be_empty
    end

    it "leaves a folder alone that cargo shares with others" do
      names = tidy(before: <<~'RUBY').out
        FileUtils.rm_r("#{folder}/release")
        File.symlink("#{Dir.pwd}/elsewhere", "#{folder}/release")
      RUBY
      expect(names.split).to include("deps", "release")
    end
  end

  # Compiles the process layer the first time; the folder keeps it.
  it "is built without Kafka by SWARM_NATIVE_FEATURES=none, and says so when Kafka is asked for" do
    result = run_ruby(<<~'RUBY', library: nil, deadline: 600, args: [ROOT, packed])
      root, packed = ARGV
      ENV["SWARM_NATIVE_FEATURES"] = "none"
      ENV["CARGO"] = "#{root}/rakelib/cargo"
      ENV["SHARED_TARGET"] = "#{root}/tmp/without-kafka"
      require "rubygems/installer"
      Gem::Installer.at(packed, install_dir: "home", force: true, document: []).install
      code = 'require "swarm_native"; p SwarmNative::Pidfd.supported?; SwarmNative::Kafka::Producer'
      system({ "GEM_PATH" => "#{Dir.pwd}/home:" }, Gem.ruby, "-e", code)
      library = Dir["home/gems/*/lib/**/*.so"].first
      puts `ldd #{library}`
    RUBY
    expect(result.out).to match(/^true$/), result.inspect
    expect(result.out).not_to match(/libssl|libcrypto/)
    expect(result.err).to match(/built without its cargo feature `kafka`/), result.inspect
  end
end
