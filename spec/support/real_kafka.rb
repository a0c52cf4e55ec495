# frozen_string_literal: true

require "fileutils"
require "open3"
require "securerandom"
require "socket"
require "tmpdir"

# A real Apache Kafka on 127.0.0.1: one node, broker and controller at once. Needs Java 17 and Maven, which fetches its
# jars once into Maven's own cache.
#
#   RealKafka.start { |kafka| kafka.bootstrap_servers }
#
# The thread that starts it has to live as long as it.
class RealKafka
  VERSION = "4.1.0"
  ROOT = File.expand_path("../..", __dir__)
  MISSING = "a real Kafka needs Java and Maven (Debian: apt-get install default-jre-headless maven)"
  # Without the second the broker logs nothing.
  BROKER = { "org.apache.kafka" => ["kafka_2.13", VERSION], "org.apache.logging.log4j" => ["log4j-slf4j-impl", "2.24.3"] }.freeze
  private_constant :ROOT, :MISSING, :BROKER

  # @return [Boolean]
  def self.available?
    have?("java") && have?("mvn")
  end

  # Has Maven fetch artifacts, once, with what they need.
  # @param artifacts [Hash{String => Array(String, String)}] groups, each with an artifact and its version
  # @return [String] a class path
  def self.class_path(name, artifacts)
    folder = File.join(ROOT, "tmp", "#{name}-#{VERSION}")
    fetch(folder, artifacts) unless File.exist?(File.join(folder, "complete"))
    "#{folder}/libs/*"
  end

  def self.fetch(folder, artifacts)
    raise MISSING unless available?

    FileUtils.mkdir_p(folder)
    File.write(File.join(folder, "pom.xml"), <<~XML)
      <project xmlns="http://maven.apache.org/POM/4.0.0">
        <modelVersion>4.0.0</modelVersion>
        <groupId>test</groupId><artifactId>kafka</artifactId><version>1</version>
        <dependencies>
          #{artifacts.map { |group, (artifact, version)| <<~DEPENDENCY }.join}
            <dependency>
              <groupId>#{group}</groupId><artifactId>#{artifact}</artifactId><version>#{version}</version>
            </dependency>
          DEPENDENCY
        </dependencies>
      </project>
    XML
    output, status = Open3.capture2e("mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime",
                                     "-DoutputDirectory=libs", chdir: folder)
    raise "Maven could not fetch #{artifacts}:\n#{output}" unless status.success?

    FileUtils.touch(File.join(folder, "complete"))
  end
  private_class_method :fetch

  def self.have?(program)
    ENV["PATH"].split(":").any? { |dir| File.executable?(File.join(dir, program)) }
  end

  # Starts one, and with a block stops it afterwards.
  # @param partitions [Integer] of each topic; topics come into being by their first use
  # @param properties [Hash{String => Object}] more of the broker's properties
  # @param listeners [Hash{String => String}] more listeners: names, with their protocols
  # @param format [Array<String>] more arguments for the tool that makes its folder
  # @param memory [String] of Java's heap
  def self.start(partitions: 3, deadline: 120, properties: {}, **more)
    kafka = new(partitions, properties, **more)
    kafka.start(deadline)
    return kafka unless block_given?

    begin
      yield kafka
    ensure
      kafka.stop
    end
  end

  # @return [String]
  attr_reader :bootstrap_servers

  def initialize(partitions, properties = {}, listeners: {}, format: [], memory: "512m")
    @class_path = self.class.class_path("kafka", BROKER)
    @format = format
    @memory = memory
    @home = Dir.mktmpdir("real-kafka")
    controller, *ports = free_ports(2 + listeners.size)
    @servers = ["PLAINTEXT", *listeners.keys].zip(ports.map { |port| "127.0.0.1:#{port}" }).to_h
    @bootstrap_servers = @servers.fetch("PLAINTEXT")
    open_to_clients = @servers.map { |name, server| "#{name}://#{server}" }.join(",")
    protocols = { "CONTROLLER" => "PLAINTEXT", "PLAINTEXT" => "PLAINTEXT", **listeners }
    File.write(config, <<~PROPERTIES)
      process.roles=broker,controller
      node.id=1
      controller.quorum.voters=1@127.0.0.1:#{controller}
      listeners=#{open_to_clients},CONTROLLER://127.0.0.1:#{controller}
      advertised.listeners=#{open_to_clients}
      listener.security.protocol.map=#{protocols.map { |name, protocol| "#{name}:#{protocol}" }.join(",")}
      controller.listener.names=CONTROLLER
      log.dirs=#{@home}/data
      offsets.topic.replication.factor=1
      transaction.state.log.replication.factor=1
      transaction.state.log.min.isr=1
      share.coordinator.state.topic.replication.factor=1
      share.coordinator.state.topic.min.isr=1
      group.initial.rebalance.delay.ms=0
      group.min.session.timeout.ms=1000
      group.consumer.min.session.timeout.ms=1000
      group.consumer.session.timeout.ms=6000
      group.consumer.min.heartbeat.interval.ms=200
      group.consumer.heartbeat.interval.ms=500
      log.retention.ms=-1
      num.partitions=#{partitions}
      #{properties.map { |name, value| "#{name}=#{value}" }.join("\n")}
    PROPERTIES
    File.write(logging, <<~YAML)
      Configuration:
        Appenders:
          Console:
            name: out
            PatternLayout: { pattern: "%d %p %m (%c)%n" }
        Loggers:
          Root:
            level: INFO
            AppenderRef: { ref: out }
    YAML
  end

  # @param listener [String] its name
  # @return [String] what a client connects to
  def servers(listener) = @servers.fetch(listener)

  def start(deadline)
    # One that begins with a dash would be taken for an option.
    id = SecureRandom.urlsafe_base64(16).sub(/\A-/, "A")
    run("kafka.tools.StorageTool", "format", "-t", id, "-c", config, *@format)
    go_on(deadline)
  end

  # Starts what was killed, in the same folder and at the same ports.
  def go_on(deadline = 120)
    File.write(log, "")
    @pid = spawn(*with_us, "java", *options, "kafka.Kafka", config, pgroup: true, in: File::NULL, %i[out err] => log)
    due = now + deadline
    until File.read(log).include?("Kafka Server started")
      if now > due || Process.wait(@pid, Process::WNOHANG)
        text = File.read(log)
        stop
        raise "Kafka did not start:\n#{text}"
      end
      sleep 0.05
    end
  end

  # Ends it with no chance to save anything: what it has acknowledged is in its files.
  def kill
    Process.kill(:KILL, @pid)
    Process.wait(@pid)
  rescue Errno::ESRCH, Errno::ECHILD
    # It has ended already.
  end

  def stop
    kill
  ensure
    FileUtils.rm_rf(@home)
  end

  def log = File.join(@home, "log")

  private

  # It is not to outlive who started it, however that one ends.
  def with_us
    have?("setpriv") ? %w[setpriv --pdeathsig KILL --] : []
  end

  def have?(program) = self.class.have?(program)
  def config = File.join(@home, "server.properties")
  def logging = File.join(@home, "log4j2.yaml")
  def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

  def options
    ["-Xmx#{@memory}", "-Dlog4j2.configurationFile=#{logging}", "-cp", @class_path]
  end

  def run(*arguments)
    output, status = Open3.capture2e("java", *options, *arguments)
    raise "#{arguments.first} failed:\n#{output}" unless status.success?
  end

  # Below those that the kernel gives to clients: nobody gets one while a broker is down, and no client that tries to
  # reach it meets itself.
  def free_ports(count)
    highest = File.read("/proc/sys/net/ipv4/ip_local_port_range").to_i - 1
    candidates = highest > 12_000 ? (10_000..highest).to_a.sample(count * 20) : [0] * count
    servers = candidates.lazy.filter_map { |port| server_at(port) }.first(count)
    raise "no #{count} ports are free from 10000 to #{highest}" if servers.size < count

    servers.map { |server| server.addr[1] }
  ensure
    servers&.each(&:close)
  end

  def server_at(port)
    TCPServer.new("127.0.0.1", port)
  rescue Errno::EADDRINUSE
    nil
  end
end
