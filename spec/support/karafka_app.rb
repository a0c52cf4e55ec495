# frozen_string_literal: true

require "json"
require_relative "kafka_broker"
require_relative "test_gems"

# A Karafka application with a swarm, in a Ruby process of its own. It says on its standard output what happens, a line
# each: `EVENT pid details`.
module KarafkaApp
  # The versions that the test gems hold for this Ruby.
  VERSIONS = (RUBY_VERSION < "3.2" ? %w[2.5.0] : %w[2.5.9 2.6.0 2.6.1]).freeze

  # `%<setup>s` is the example's own code, after the app's setup and before the command.
  PROGRAM = <<~'RUBY'
    require "etc"
    require "json"
    $stdout.sync = true
    gem "karafka", "= #{ENV.fetch("APP_KARAFKA")}"
    require "karafka"
    unless ENV["APP_PLAIN"]
      require "swarm_native/karafka"
      SwarmNative.logger = nil unless ENV["APP_LOG"]
    end

    def say(*words) = $stdout.syswrite("#{words.join(" ")}\n")

    class Consumer < Karafka::BaseConsumer
      def consume
        messages.each { |message| say "consumed", Process.pid, message.raw_payload }
      end
    end

    class App < Karafka::App
      setup do |config|
        config.kafka = {
          "bootstrap.servers": ENV.fetch("APP_SERVERS"), "session.timeout.ms": 2000, "heartbeat.interval.ms": 200,
          "auto.offset.reset": "earliest", **JSON.parse(ENV.fetch("APP_KAFKA"), symbolize_names: true)
        }
        config.client_id = "spec"
        config.shutdown_timeout = 5_000
        config.max_wait_time = 200
        config.swarm.nodes = Integer(ENV.fetch("APP_NODES"))
        config.respond_to?(:group_id=) ? config.group_id = ENV.fetch("APP_GROUP") : config.consumer_group = "g"
        config.logger = Logger.new(ENV["APP_LOG"] ? $stdout : File::NULL)
      end
      routes.draw { ENV.fetch("APP_TOPIC").split(",").each { |name| topic(name) { consumer Consumer } } }
    end

    EVENTS = %w[app.supervising app.running app.quieting app.quiet app.stopping app.stopped app.terminated
                swarm.manager.before_fork swarm.manager.after_fork swarm.node.after_fork swarm.manager.stopping
                swarm.manager.terminating error.occurred process.notice_signal]
    EVENTS.each do |name|
      Karafka.monitor.subscribe(name) do |event|
        payload = event.payload
        details = [payload[:signal], payload[:status], payload[:type], payload[:error]&.message, payload[:node]&.id]
        say name, Process.pid, details.compact.join(",")
      end
    end
    fetching = false
    Karafka.monitor.subscribe("connection.listener.before_fetch_loop") do
      say "fetching", Process.pid, (Karafka::App.config.swarm.node || nil)&.id unless fetching
      fetching = true
    end
    unless ENV["APP_PLAIN"]
      SwarmNative::Event::NAMES.each do |name|
        Karafka.monitor.subscribe("swarm_native.#{name}") do |event|
          say "native.#{name}", event[:pid].to_i, event[:reason], event[:message].inspect
        end
      end
    end

    %<setup>s

    ENV["KARAFKA_BOOT_FILE"] = "false"
    ARGV.replace([ENV.fetch("APP_COMMAND"), *ARGV])
    Karafka::Cli.start
  RUBY

  # How long anything may take that has no deadline of its own to keep: a machine may be slow.
  PATIENCE = 90

  # Plain Karafka looks after its nodes every 30 s, and waits for 5 s before it replaces one. What it does then can be
  # seen sooner.
  PACE = <<~RUBY
    Karafka::App.config.internal.swarm.supervision_interval = 200
    Karafka::App.config.internal.swarm.node_restart_timeout = 100
  RUBY

  # The app while it runs.
  class Running
    attr_reader :process

    def initialize(process, plain)
      @process = process
      @plain = plain
    end

    def pid = process.pid
    def out = process.out
    def signal(name) = process.signal(name)
    def wait_for(pattern, deadline = PATIENCE) = process.wait_for(pattern, deadline)

    # @return [Array<String>] the lines so far that begin with this word
    def lines(word) = out.lines(chomp: true).select { |line| line.start_with?("#{word} ") }

    # Until as many nodes as there have ever been are ready, and Karafka's own supervisor has begun: it does so after its
    # first nodes, which may be ready before.
    def wait_until_ready(count = 1)
      ready = @plain ? "fetching" : "native.node_ready"
      process.wait_until(PATIENCE, "#{count} ready nodes") { lines(ready).size >= count }
      wait_for(/^app\.supervising /)
    end

    # The pids of the nodes that have begun to fetch, in order.
    def fetching = lines("fetching").map { |line| line.split[1].to_i }

    # Waits until as many nodes have ever begun to fetch.
    # @return [Array<Integer>]
    def wait_until_fetching(count, deadline = PATIENCE)
      process.wait_until(deadline, "#{count} nodes that fetch") { fetching.then { |pids| pids if pids.size >= count } }
    end

    def children(of = pid)
      File.read("/proc/#{of}/task/#{of}/children").split.map(&:to_i)
    rescue Errno::ENOENT, Errno::ESRCH
      []
    end
  end

  # @param setup [String] Ruby code that runs before the command
  # @param topic [String] one, or several with commas between
  # @param command [String] of Karafka's command line
  # @param plain [Boolean] without anything of this gem: for examples that show that plain Karafka fails where the drop-in
  #   does not
  # @param kafka [Hash{Symbol => Object}] more settings of librdkafka's; after the routes were drawn it is too late for them
  # @param env [Hash{String => String}] `APP_LOG` has Karafka log to the standard output
  # @yieldparam app [Running]
  # @return [RubyProcess::Result]
  def run_karafka(setup = "", version: karafka_version, nodes: 1, topic: new_topic(partitions: 2), plain: false,
                  command: "swarm", kafka: {}, env: {}, deadline: 2 * PATIENCE, **options, &block)
    env = { "APP_KARAFKA" => version, "APP_NODES" => nodes.to_s, "APP_TOPIC" => topic,
            "APP_GROUP" => "group-#{topic.tr(",", "-")}", "APP_SERVERS" => bootstrap_servers,
            "APP_PLAIN" => ("1" if plain), "APP_COMMAND" => command,
            "APP_KAFKA" => JSON.generate(kafka), "KARAFKA_ENV" => "production", **test_gems_env, **env }
    setup, options[:library] = "#{PACE}#{setup}", nil if plain
    run_ruby(PROGRAM.sub("%<setup>s") { setup }, env: env, deadline: deadline, **options) do |process|
      block.call(Running.new(process, plain))
    end
  end

  # Stops a swarm whose node does not hear of it.
  # @param time [Integer] `shutdown_timeout`, in milliseconds
  # @return [RubyProcess::Result]
  def stop_deaf(time, setup = "")
    setup = <<~RUBY
      Karafka::App.config.shutdown_timeout = #{time}
      Karafka::App.config.internal.respond_to?(:forceful_shutdown_wait) &&
        Karafka::App.config.internal.forceful_shutdown_wait = 0
      Karafka::Swarm::Supervisor.send(:remove_const, :SHUTDOWN_GRACE_PERIOD)
      Karafka::Swarm::Supervisor.const_set(:SHUTDOWN_GRACE_PERIOD, 500)
      #{setup}
      Karafka.monitor.subscribe("app.running") { trap("TERM", "IGNORE"); say "deaf" }
    RUBY
    run_karafka(setup) do |app|
      app.wait_for(/^deaf/)
      app.wait_until_fetching(1)
      app.signal("TERM")
    end
  end

  # The version that the examples of this group run on: `karafka: "2.5.9"` in its tags, else the newest for this Ruby.
  def karafka_version
    tag = self.class.metadata[:karafka]
    tag.is_a?(String) ? tag : VERSIONS.last
  end

  # Has `count` messages produced to `topic`.
  def produce(topic, count, prefix = "message")
    producer = open_producer
    count.times { |number| producer.produce(topic: topic, payload: "#{prefix}-#{number}", partition: number % 2) }
    producer.flush(10)
  end
end

RSpec.configure { |config| config.include KarafkaApp, :karafka }
