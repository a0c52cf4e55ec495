# frozen_string_literal: true

# A swarm consumes Kafka while its nodes are killed, frozen, crashed and silenced, and loses no message. See --help.
#
#   main.rb          the demo: starts the others, keeps the account, shows it      run.rb, fleet.rb, view.rb, report.rb
#   + a broker       SwarmNative::Kafka::EmbeddedBroker
#   + producer.rb    produces at the pace of consumption                           pace.rb
#   + one_process.rb the work done by one process                                  consume.rb, work.rb, ledger.rb
#   + swarm.rb       the same work done by SwarmNative::Supervisor and its nodes
#     + a node ...   is struck                                                     chaos.rb

require "etc"
require "fileutils"
require "json"
require "tmpdir"
require "swarm_native"
require_relative "options"
require_relative "report"
require_relative "run"
require_relative "view"
require_relative "work"

module Demo
  # Runs it.
  class Main
    # Exit codes: 0 all is well, 1 it is not, 2 bad options, 128 + the signal that stopped it.
    BAD_OPTIONS = 2
    # So many results are computed again here, to compare.
    SAMPLE = 100

    # Each node has several, so that those of a node that is gone spread over the others.
    def self.partitions(nodes)
      [12, 3 * nodes].max
    end

    def initialize(options, output: $stdout)
      @options = options
      @output = output
      @view = View.for(output, quiet: options.json)
      @cores = Etc.nprocessors
    end

    # @return [Integer] the exit code
    def call
      folder = Dir.mktmpdir("swarm-demo")
      report = in_folder(folder)
      tell(report)
      FileUtils.rm_r(folder) if report.good?
      @view.say("The logs are in #{folder}") unless report.good?
      report.good? ? 0 : 1
    rescue SignalException => e
      FileUtils.rm_r(folder) if folder
      @view.say("\nStopped.")
      128 + e.signo
    end

    private

    def in_folder(folder)
      @view.say("#{Words.count(@options.messages)} messages, #{Words.plural(@options.nodes, 'node')}, " \
                "#{Words.plural(@cores, 'core')}, seed #{@options.seed}\n")
      alone = swarm = nil
      topics = { "alone" => self.class.partitions(1), "swarm" => self.class.partitions(@options.nodes) }
      SwarmNative::Kafka::EmbeddedBroker.start(topics: topics) do |broker|
        common = { servers: broker.bootstrap_servers, options: @options }
        alone = run("One process", topic: "alone", folder: File.join(folder, "alone"), workers: 1,
                                   program: ["one_process.rb"], **common)
        swarm = run("The swarm", topic: "swarm", folder: File.join(folder, "swarm"), workers: @options.nodes,
                                 program: ["swarm.rb", @options.nodes], chaos: @options.chaos, **common)
      end
      Report.new(@options, alone, swarm, cores: @cores, sampled: sampled(alone.audit))
    end

    def run(title, **settings)
      Run.new(title, **settings).tap do |run|
        @view.begin(run)
        run.call { |happening| @view.show(run, happening) }
        @view.finish(run)
      end
    end

    # Results of the one process that are not what they have to be.
    def sampled(audit)
      random = Random.new(@options.seed)
      Array.new(SAMPLE) { random.rand(1..@options.messages) }.uniq.count do |id|
        audit[id] && Work.process(Work.message(id, @options.seed)) != [id, audit[id]]
      end
    end

    def tell(report)
      return @output.puts(JSON.pretty_generate(report.to_h)) if @options.json

      width = @output.winsize[1] - 1 if @output.tty?
      report.lines(width).each { |line| @output.puts(line) }
    end
  end
end

if $PROGRAM_NAME == __FILE__
  begin
    options = Demo::Options.parse(ARGV)
  rescue OptionParser::ParseError => e
    warn "#{e.message}\nSee bin/demo --help"
    exit Demo::Main::BAD_OPTIONS
  end
  %w[TERM HUP].each { |signal| trap(signal) { raise SignalException, signal } }
  exit Demo::Main.new(options).call
end
