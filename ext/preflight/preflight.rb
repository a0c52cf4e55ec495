# frozen_string_literal: true

require "open3"
require "rbconfig"
require "shellwords"

# What a build of the extension needs of the machine, looked at before it starts.
class Preflight
  CARGO = "1.85"

  # What can be built in: SWARM_NATIVE_FEATURES names them, since RubyGems cannot hand cargo a choice.
  FEATURES = %w[kafka gssapi oidc].freeze

  # Where Linux systems keep libclang, as bindgen looks for it.
  LIBCLANG = %w[/usr/lib/llvm*/lib /usr/lib/*-linux-gnu* /usr/lib64 /usr/lib /usr/lib/llvm* /usr/local/lib* /usr/lib32]
             .flat_map { |folder| ["#{folder}/libclang.so*", "#{folder}/libclang-*.so*"] }.freeze

  Missing = Struct.new(:what, :package)

  def initialize(env: ENV, platform: RUBY_PLATFORM, engine: RUBY_ENGINE)
    @env = env
    @platform = platform
    @engine = engine
  end

  # @return [String, nil] why the gem cannot be built here
  def refusal
    unless @platform.include?("linux")
      return "karafka_swarm runs on Linux only, because it is built on pidfd and epoll; this Ruby is for #{@platform}."
    end
    return "karafka_swarm needs CRuby, because it forks; this is #{@engine}." unless @engine == "ruby"

    unknown = features - FEATURES
    unless unknown.empty?
      return "SWARM_NATIVE_FEATURES holds #{unknown.join(', ')}; allowed are #{FEATURES.join(', ')}, or none for the " \
             "process layer alone."
    end
    list_of(missing) unless missing.empty?
  end

  # Writes the choice into the crate that is about to be built: RubyGems unpacked it for this build alone.
  def choose_features
    return if choice.empty?

    manifest = File.expand_path("../swarm_native/Cargo.toml", __dir__)
    text = File.read(manifest)
    text[/^default = \[.*\]$/] = "default = #{features}"
    File.write(manifest, text)
  end

  private

  def choice
    @env.fetch("SWARM_NATIVE_FEATURES", "").split(/[,\s]+/).reject(&:empty?)
  end

  def features
    return ["kafka"] if choice.empty?

    choice == ["none"] ? [] : choice
  end

  def missing
    @missing ||= [compiler, c_library, linker, make, ruby_headers, cargo, libclang,
                  *(features.empty? ? [] : [cxx, bash, *openssl]), (sasl if features.include?("gssapi")),
                  (curl if features.include?("oidc"))].compact
  end

  def list_of(missing)
    packages = missing.filter_map(&:package).uniq
    lines = missing.map { |thing| "  - #{thing.what}#{" (Debian package #{thing.package})" if thing.package}" }
    lines.unshift("karafka_swarm cannot be built here. What is missing:")
    lines << "On Debian and Ubuntu: apt-get install #{packages.join(' ')}" unless packages.empty?
    lines.join("\n")
  end

  def compiler
    Missing.new("a C compiler, \"#{cc}\"", "gcc") unless found?(cc)
  end

  def c_library
    return if !found?(cc) || run(*cc.shellsplit, "-E", "-include", "stdio.h", "-x", "c", File::NULL)

    Missing.new("the C library's headers", "libc6-dev")
  end

  # librdkafka's configure asks for it, though nothing in C++ is built.
  def cxx
    program = @env.fetch("CXX", "c++")
    Missing.new("a C++ compiler, \"#{program}\"", "g++") unless found?(program)
  end

  # What librdkafka's configure is written in.
  def bash
    Missing.new("bash", "bash") unless found?("bash")
  end

  # RubyGems links with the compiler that built Ruby.
  def linker
    linker = RbConfig.expand(RbConfig::MAKEFILE_CONFIG["CC"].dup).shellsplit.first
    Missing.new("\"#{linker}\", the compiler that this Ruby was built with", "gcc") unless found?(linker)
  end

  def make
    Missing.new("make", "make") unless found?(@env.fetch("MAKE", "make"))
  end

  def ruby_headers
    return if %w[rubyhdrdir rubyarchhdrdir].zip(%w[ruby.h ruby/config.h]).all? do |folder, header|
      File.exist?(File.join(RbConfig::CONFIG[folder].to_s, header))
    end

    Missing.new("the headers of Ruby #{RUBY_VERSION}", "ruby-dev")
  end

  def cargo
    program = @env.fetch("CARGO", "cargo")
    return no_cargo unless found?(program)

    version = run(program, "--version").to_s[/\Acargo (\d+\.\d+(\.\d+)?)/, 1]
    return Missing.new("a cargo that works: \"#{program} --version\" gives no version") unless version
    return if Gem::Version.new(version) >= Gem::Version.new(CARGO)

    Missing.new("cargo #{CARGO} or newer; \"#{program}\" is #{version} (\"rustup update\", or https://rustup.rs)")
  end

  def no_cargo
    what = "cargo #{CARGO} or newer"
    hidden = rustup_cargo
    return Missing.new("#{what} on the PATH: #{hidden} is not on it (with sudo: sudo env PATH=\"$PATH\" ...)") if hidden
    return Missing.new(what, "cargo") if debian_has_rust?

    Missing.new("#{what} (https://rustup.rs; from Debian 13 on the package cargo)")
  end

  # rustup installs for one user; root by sudo does not see it.
  def rustup_cargo
    homes = [@env["HOME"], *(File.join("/home", @env["SUDO_USER"]) if @env["SUDO_USER"])].compact
    homes.map { |home| File.join(home, ".cargo", "bin", "cargo") }.find { |path| File.executable?(path) }
  end

  def debian_has_rust?
    system = File.read("/etc/os-release")
    system.match?(/^ID=debian$/) && (system[/^VERSION_ID="?(\d+)/, 1] || 99).to_i >= 13
  rescue Errno::ENOENT
    false
  end

  def libclang
    return if @env["LIBCLANG_PATH"]

    # libclang-cpp is another library: bindgen passes it by.
    library = Dir[*LIBCLANG].find { |path| File.exist?(path) && !path.include?("-cpp.") }
    return Missing.new("libclang, with which the bindings to Ruby are generated", "libclang-dev") unless library

    # Debian has the library without the headers that it looks for beside itself.
    folder = File.dirname(File.realpath(library))
    return unless folder.match?(%r{\A/usr/lib/llvm-\d+/lib\z}) && Dir["#{folder}/clang/*/include/stddef.h"].empty?

    Missing.new("libclang's headers", "libclang-dev")
  end

  def openssl
    return [] if %w[OPENSSL_DIR OPENSSL_LIB_DIR].any? { |name| @env[name] }
    return [library("openssl", "OpenSSL", "libssl-dev")] if found?(@env.fetch("PKG_CONFIG", "pkg-config"))

    [Missing.new("pkg-config", "pkg-config"), (Missing.new("OpenSSL's headers", "libssl-dev") unless ssl_header?)]
  end

  def ssl_header?
    found?(cc) && run(*cc.shellsplit, "-E", "-include", "openssl/ssl.h", "-x", "c", File::NULL)
  end

  def sasl
    library("libsasl2", "Cyrus SASL", "libsasl2-dev")
  end

  # Without it librdkafka is built all the same, and refuses to ask for tokens.
  def curl
    library("libcurl", "libcurl", "libcurl4-openssl-dev")
  end

  def library(name, title, package)
    program = @env.fetch("PKG_CONFIG", "pkg-config")
    return if !found?(program) || run(program, "--exists", name)

    Missing.new("#{title}'s headers", package)
  end

  def cc
    @env.fetch("CC", "cc")
  end

  # @return [String, nil] the output, where the command succeeded
  def run(*command)
    output, status = Open3.capture2(@env.to_h, *command, err: File::NULL)
    output if status.success?
  rescue SystemCallError
    nil
  end

  def found?(command)
    program = command.shellsplit.first.to_s
    return File.executable?(program) if program.include?("/")

    @env.fetch("PATH", "").split(":").any? { |folder| File.executable?(File.join(folder, program)) }
  end
end
