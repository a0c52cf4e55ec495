# frozen_string_literal: true

require "rbconfig"

module KarafkaChaos
  # The swarm that is struck, in the current folder, where its nodes write down what they have consumed.
  class Swarm
    APP = File.join(__dir__, "app.rb")

    # How soon nodes are to be gone once their supervisor is.
    ORPHANED = 5

    # @return [Array<String>] what was wrong so far
    attr_reader :problems
    # @return [String] new with each swarm, since a Kafka may have seen others
    attr_reader :topic

    def initialize(servers, nodes)
      TestGems.ensure_installed
      @topic = "chaos-#{rand(1 << 40)}"
      @environment = { "APP_SERVERS" => servers, "APP_NODES" => nodes.to_s, "APP_TOPIC" => topic,
                       "KARAFKA_ENV" => "production",
                       "GEM_PATH" => [TestGems::HOME, ENV["GEM_PATH"].to_s].join(":") }
      @nodes = nodes
      @problems = []
      start
    end

    def kill(random = nil) = random ? hit(:KILL, random) : end_all
    def freeze(random) = hit(:STOP, random)
    def go_on(random) = hit(:CONT, random)
    def term(random) = hit(:TERM, random)

    # Kills the supervisor, sees its nodes go, and starts another.
    def restart
      nodes = children.map { |pid| handle(pid) }.compact
      end_supervisor(:KILL)
      # One that is frozen goes once it runs.
      nodes.each { |node| node.signal(:CONT) }
      stayed = nodes.reject { |node| node.wait(ORPHANED) }
      @problems << "#{stayed.size} nodes outlived their supervisor by #{ORPHANED} s" unless stayed.empty?
      stayed.each { |node| node.signal(:KILL) }
      start
    end

    def thaw
      children.each { |pid| handle(pid)&.signal(:CONT) }
    end

    # @return [Hash{Integer => Integer}] of each message that was consumed, how often
    def consumed
      Dir["consumed.*"].flat_map { |file| File.readlines(file).grep(/\n\z/).map(&:to_i) }.tally
    end

    def ends = events("exited").map { |words| words[/\w+/] }.tally
    def errors = events("error").tally

    # @return [Array<String>] what was wrong with the stop
    def stop
      nodes = children
      status = end_supervisor(:TERM)
      left = nodes.select { |pid| File.exist?("/proc/#{pid}") }
      [("the swarm ended with #{status}" unless status.success?), ("nodes left: #{left}" unless left.empty?)].compact
    end

    private

    def start
      @pid = spawn(@environment, RbConfig.ruby, APP, in: File::NULL, %i[out err] => ["output", "a"])
    end

    def children = File.read("/proc/#{@pid}/task/#{@pid}/children").split.map(&:to_i)

    def handle(pid)
      SwarmNative::Pidfd.new(pid)
    rescue Errno::ESRCH
      nil
    end

    def ensure_alive
      return if File.read("/proc/#{@pid}/stat")[/\) (.)/, 1] != "Z"

      raise "the supervisor has ended:\n#{File.read("output")}"
    end

    # By a handle, and only while it is our supervisor's child: what was found may have ended since.
    def hit(signal, random)
      ensure_alive
      pid = children.sample(random: random) or return false
      node = handle(pid) or return false
      children.include?(pid) && node.signal(signal)
    end

    def end_supervisor(signal)
      Process.kill(signal, @pid)
      Process.wait2(@pid).last
    ensure
      @pid = nil
    end

    def end_all
      end_supervisor(:KILL) if @pid
    end

    def events(word)
      return [] unless File.exist?("events")

      File.readlines("events", chomp: true).filter_map { |line| line.delete_prefix("#{word} ") if line.start_with?("#{word} ") }
    end
  end
end
