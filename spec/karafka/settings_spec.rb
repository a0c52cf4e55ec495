# frozen_string_literal: true

require "support/karafka_app"

RSpec.describe "the drop-in's settings and contract", :karafka, :kafka, :test_gems do
  # What does not name a version is the gem's own, whichever Karafka it was loaded beside.
  #
  # Loads Karafka and then what is asked for; nothing is forked.
  def load_karafka(code, version: KarafkaApp::VERSIONS.last)
    run_ruby("gem 'karafka', '= #{version}'\nrequire 'karafka'\n#{code}", env: test_gems_env, deadline: KarafkaApp::PATIENCE)
  end

  it "is required after Karafka" do
    result = run_ruby('require "swarm_native/karafka"', env: test_gems_env, deadline: KarafkaApp::PATIENCE)
    expect(result.err).to include('put require "swarm_native/karafka" below require "karafka"')
    expect(result.status.exitstatus).to eq(1)
  end

  it "takes the supervisor's settings that Karafka has none for, and tells of a name that there is not" do
    result = load_karafka(<<~'RUBY')
      require "swarm_native/karafka"
      SwarmNative::Karafka.setup do |config|
        config.memory_limit = 512 * 1024 * 1024
        config.max_lifetime = 3600
        config.restart_backoff = 2.0..10
      end
      policy = SwarmNative::Karafka::Policy.from(Karafka::App.config, SwarmNative::Karafka.settings)
      SwarmNative::Supervisor.new(**policy)
      p policy.slice(:memory_limit, :max_lifetime, :backoff_min, :backoff_max)
      begin
        SwarmNative::Karafka.setup { |config| config.memory_limt = 1 }
      rescue SwarmNative::ConfigurationError => e
        puts e.message
      end
    RUBY
    expect(result.out.lines(chomp: true)).to match([
      { memory_limit: 512 * 1024 * 1024, max_lifetime: 3600, backoff_min: 2.0, backoff_max: 10 }.inspect,
      /\Amemory_limt: no such setting, allowed: .*memory_limit.*restart_backoff/
    ])
  end

  it "says what fast_poll, fast_hand_over and turnstile may be" do
    result = load_karafka(<<~'RUBY')
      require "swarm_native/karafka"
      { fast_poll: 1, fast_hand_over: nil, turnstile: "on" }.each do |name, value|
        SwarmNative::Karafka.setup { |config| config.public_send("#{name}=", value) }
      rescue SwarmNative::ConfigurationError => e
        puts e.message
      end
    RUBY
    expect(result.out.lines(chomp: true)).to eq([
      "fast_poll: 1 given, allowed: true or false",
      "fast_hand_over: nil given, allowed: true or false",
      'turnstile: "on" given, allowed: true, false, or settings such as { budget: 0.2 }'
    ])
  end

  KarafkaApp::VERSIONS.each do |version|
    it "gives nodes the time that they need to leave, and keeps the least wait that a user set (Karafka #{version})" do
      result = load_karafka(<<~'RUBY', version: version)
        require "swarm_native/karafka"
        policy = -> { SwarmNative::Karafka::Policy.from(Karafka::App.config, SwarmNative::Karafka.settings) }
        Karafka::App.config.shutdown_timeout = 10_000
        p policy.call[:shutdown_timeout], policy.call[:backoff_min]
        Karafka::App.config.internal.swarm.node_restart_timeout = 40_000
        p policy.call.values_at(:backoff_min, :backoff_max)
      RUBY
      # At most a fifth is taken off by jitter.
      kill_after = Gem::Version.new(version) < Gem::Version.new("2.6") ? 16.0 : 25.0
      expect(result.out.split("\n")).to eq([kill_after.to_s, "nil", [50.0, 50.0].inspect])
    end
  end

  it "warns of a version that is newer than it knows, and works" do
    result = load_karafka(<<~'RUBY')
      Karafka.send(:remove_const, :VERSION)
      Karafka::VERSION = "99.0.0"
      require "swarm_native/karafka"
      puts Karafka::App.config.internal.swarm.manager.class
    RUBY
    expect(result.err).to include("swarm_native has not been tested with Karafka 99.0.0")
    expect(result.out).to eq("SwarmNative::Karafka::Manager\n")
  end

  it "refuses a Karafka in which a piece has changed its shape, and names the piece" do
    result = load_karafka(<<~'RUBY')
      Karafka::Swarm::Supervisor.class_eval do
        private

        def lock(seconds) = sleep(seconds)
      end
      Karafka::Process.send(:undef_method, :trap_signal)
      Karafka::Connection::Client.class_eval do
        private

        def build_consumer(name) = name
      end
      Rdkafka::Config.send(:remove_const, :REQUIRED_CONFIG)
      Karafka::Processing::JobsQueue.class_eval { def initialize = @queue = [] }
      require "swarm_native/karafka"
    RUBY
    expect(result.err).to include("Karafka::Swarm::Supervisor#lock is gone or takes other arguments")
      .and include("Karafka::Process#trap_signal is gone or takes other arguments")
      .and include("Karafka::Connection::Client#build_consumer is gone or takes other arguments")
      .and include("log.queue is no longer on in Rdkafka::Config")
      .and include("Karafka::Processing::JobsQueue has no Thread::Queue in @queue")
    expect(result.status.exitstatus).to eq(1)
  end

  KarafkaApp::VERSIONS.each do |version|
    it "finds what it relies on in Karafka #{version}" do
      result = load_karafka('require "swarm_native/karafka"; p SwarmNative::Karafka::Contract.problems', version: version)
      expect(result.out).to eq("[]\n")
      expect(result.err).to eq("")
    end
  end

  it "answers for the process handle that Karafka 2.5.0 has of its own", if: RUBY_VERSION < "3.2" do
    result = load_karafka(<<~'RUBY')
      require "swarm_native/karafka"
      handle = Karafka::Swarm::Pidfd.new(pid = spawn("cat", in: IO.pipe.first))
      p Karafka::Swarm::Pidfd, Karafka::Swarm::Pidfd.supported?, handle.alive?, handle.signal("TERM")
      handle.cleanup
      p handle.alive?, handle.signal("TERM")
      begin
        Karafka::Swarm::Pidfd.new(pid)
      rescue Karafka::Errors::PidfdOpenFailedError => e
        p e.class
      end
    RUBY
    expect(result.out.split("\n")).to eq(%w[SwarmNative::Karafka::Pidfd true true true false false
                                            Karafka::Errors::PidfdOpenFailedError])
  end
end
