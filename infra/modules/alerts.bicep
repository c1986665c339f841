// Alert rules of alerts.json. Each asks the metrics in the workspace (table AppMetrics, which Application Insights fills).
param location string
param tags object
param token string
param workspaceId string

@description('Addresses that get a mail when an alert fires or is over.')
param emails string[]

var rules = any(loadJsonContent('../alerts.json'))

// What a query takes of a metric: a counter is summed, of a gauge or a histogram the extreme value counts.
var measures = {
  total: 'sum(Sum)'
  maximum: 'max(coalesce(Max, Sum))'
  minimum: 'min(coalesce(Min, Sum))'
}
var aggregations = {
  total: 'Total'
  maximum: 'Maximum'
  minimum: 'Minimum'
}

resource people 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-${token}'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'devicefactry'
    enabled: true
    emailReceivers: [
      for (email, i) in emails: {
        name: 'email-${i}'
        emailAddress: email
        useCommonAlertSchema: true
      }
    ]
  }
}

resource alerts 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [
  for rule in rules: {
    name: '${rule.name}-${token}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: rule.name
      description: '${rule.description} ${rule.runbook}'
      enabled: true
      severity: rule.severity
      scopes: [
        workspaceId
      ]
      evaluationFrequency: 'PT${rule.frequencyMinutes}M'
      windowSize: 'PT${rule.windowMinutes}M'
      autoMitigate: true
      criteria: {
        allOf: [
          {
            query: join(
              concat(
                [
                  'AppMetrics'
                  '| where Name == \'${rule.metric}\''
                ],
                map(
                  items(rule.?dimensions ?? {}),
                  dimension => '| where tostring(Properties[\'${dimension.key}\']) in (\'${join(dimension.value, '\', \'')}\')'
                ),
                map(
                  rule.splitBy,
                  attribute => '| extend ${replace(attribute, '.', '_')} = tostring(Properties[\'${attribute}\'])'
                ),
                [
                  '| summarize measured = ${measures[rule.aggregation]} by ${join(concat(['bin(TimeGenerated, 1m)'], map(rule.splitBy, attribute => replace(attribute, '.', '_'))), ', ')}'
                ]
              ),
              '\n'
            )
            metricMeasureColumn: 'measured'
            timeAggregation: aggregations[rule.aggregation]
            dimensions: map(rule.splitBy, attribute => {
              name: replace(attribute, '.', '_')
              operator: 'Include'
              values: [
                '*'
              ]
            })
            operator: rule.operator
            threshold: rule.threshold
            failingPeriods: {
              numberOfEvaluationPeriods: 1
              minFailingPeriodsToAlert: 1
            }
          }
        ]
      }
      actions: {
        actionGroups: [
          people.id
        ]
        customProperties: {
          runbook: rule.runbook
        }
      }
    }
  }
]
